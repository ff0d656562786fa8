/**
 * A WebSocket that reconnects. One ES module without imports or a build step.
 * How to use it: docs/howto/live-client.md. What each name does: live.d.ts.
 */

const FINAL = new Set([1000, 1003, 1007, 1008, 1009, 4401, 4403, 4404, 4422]);
const REFUSED = new Set([4401, 4403]);
const GONE = new Set([301, 302, 303, 307, 308, 401, 403, 404]); // moved to the login page, refused, or gone
const LOST = { code: 1006, reason: "", wasClean: false };
const ENVELOPE = /^\s*\{\s*"fastws"\s*:/;

const now = () => Date.now();
const upTo = (ms) => Math.random() * ms;
const ask = async (option) => (typeof option === "function" ? option() : option);
const report = (error) => (globalThis.reportError ?? console.error)(error);
const isHidden = () => globalThis.document?.visibilityState === "hidden";
const isOffline = () => globalThis.navigator?.onLine === false;
const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Call a function of the page; its error is reported and stops nothing here. */
function guarded(call, ...values) {
  try {
    return call(...values);
  } catch (error) {
    report(error);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The envelope of a frame and its data. Only the library's frames have an envelope. */
function unwrap(raw, isText) {
  let [head, rest] = [raw];
  if (typeof raw !== "string") {
    const end = 2 + (raw.byteLength < 2 ? 0 : new DataView(raw).getUint16(0));
    [head, rest] = [new TextDecoder().decode(raw.slice(2, end)), raw.slice(end)];
  }
  if (!ENVELOPE.test(head)) return [null, isText || rest ? raw : parsed(raw)];
  const frame = parsed(head);
  return [frame, rest ?? (frame.data === undefined ? frame.text : frame.data)];
}

/** The wait is random, so that clients that lost a server together do not return together. */
function delayOf(attempt, { code, reason }) {
  const growing = Math.min(30_000, 1000 * 2 ** attempt);
  const spread = 1000 * (/\bspread=([\d.]+)/.exec(reason)?.[1] ?? 2);
  // A client that is closed as too slow (1013) again and again must return later each time.
  const window = { 1012: spread, 1013: Math.max(spread, attempt && growing) }[code];
  return upTo(window ?? growing) + (isHidden() ? 30_000 : 0);
}

/** Browsers hide why a handshake failed, so find out whether this user may still load the page. */
async function isGone(page) {
  const signal = AbortSignal.timeout(10_000);
  try {
    const answer = await fetch(page, { method: "HEAD", redirect: "manual", cache: "no-store", signal });
    return answer.type === "opaqueredirect" || GONE.has(answer.status);
  } catch {
    return false; // the server may come back
  }
}

export class CallError extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : JSON.stringify(detail));
    Object.assign(this, { name: "CallError", status, detail });
  }
}

class Events {
  #handlers = new Map();

  on(name, handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  emit(name, ...values) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) guarded(handler, ...values);
  }
}

export class Live extends Events {
  status = "connecting";
  #url;
  #options;
  #calls = new Map();
  #queue = [];
  #link = null; // the connection, or the attempt at one
  #attempt = 0;
  #unopened = 0;
  #ended = true;
  #timer = null;
  #watch = null;
  #listeners = null;

  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.#options = { tag: "type", queue: 0, ...options };
    this.retry();
  }

  onStatus(handler) {
    return this.on("status", handler);
  }

  send(data) {
    const frame = typeof data === "string" || data?.byteLength !== undefined ? data : JSON.stringify(data);
    if (this.#write(frame)) return "sent";
    if (this.#ended || this.#queue.length >= this.#options.queue) return false;
    this.#queue.push(frame);
    return "kept";
  }

  request(message, { timeout = 10_000 } = {}) {
    const id = newKey();
    const call = { frame: JSON.stringify({ ...message, id }) };
    const reply = new Promise((resolve, reject) => {
      call.resolve = resolve;
      call.fail = (detail, status = 0) => reject(new CallError(status, detail));
    });
    const timer = setTimeout(call.fail, timeout, "no reply in time");
    this.#calls.set(id, call);
    if (!this.send(call.frame)) call.fail("not connected");
    return reply.finally(() => {
      clearTimeout(timer);
      this.#calls.delete(id);
      this.#queue = this.#queue.filter((frame) => frame !== call.frame);
    });
  }

  retry() {
    this.#drop();
    this.#attempt = this.#unopened = 0;
    if (this.#ended) this.#listen();
    this.#ended = false;
    queueMicrotask(() => this.#open()); // the page adds its handlers first
  }

  close(code = 1000, reason = "") {
    this.#link?.socket?.close(code, reason);
    this.#finish("closed", null);
  }

  async *[Symbol.asyncIterator]() {
    const messages = [];
    let wake;
    const stops = [this.on("message", (data) => wake(messages.push(data))), this.onStatus(() => wake())];
    try {
      while (messages.length || !this.#ended) {
        const news = new Promise((resolve) => (wake = resolve));
        if (messages.length) yield messages.shift();
        else await news;
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  #listen() {
    this.#watch = setInterval(() => this.#check(), 5000);
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    const listen = (name, handler, on = globalThis) => on.addEventListener?.(name, handler, { signal });
    listen("online", () => this.#wake());
    listen("pageshow", () => this.#wake());
    listen("visibilitychange", () => isHidden() || this.#wake(), globalThis.document ?? {});
    listen("focus", () => this.#check());
    listen("offline", () => (this.#link ? this.#lose(LOST) : this.#set("offline")));
    listen("pagehide", () => this.#leave()); // an open socket keeps a page out of the back/forward cache
  }

  #wake() {
    if (this.status === "offline" && !isOffline()) this.#set(this.#link ? "connecting" : "waiting");
    if (this.#link) this.#check();
    else this.#schedule(upTo(300));
  }

  #leave() {
    this.#drop();
    this.#set("waiting");
  }

  #schedule(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), delay);
  }

  #set(status, event = null) {
    if (status === this.status) return;
    this.status = status;
    this.emit("status", status, event);
  }

  async #open() {
    if (this.#link || this.#ended) return;
    const link = (this.#link = { deadline: now() + 30_000 }); // a handshake may stall for minutes
    this.#set(isOffline() ? "offline" : "connecting");
    const { protocols = [], WebSocket: Socket = WebSocket } = this.#options;
    try {
      const parts = [await this.#address(), await ask(protocols)];
      if (this.#link === link) this.#connect(link, new Socket(...parts));
    } catch (error) {
      report(error);
      if (this.#link === link) this.#lose(LOST);
    }
  }

  async #address() {
    const url = new URL(await ask(this.#url), globalThis.location?.href);
    for (const [name, item] of Object.entries((await ask(this.#options.query)) ?? {})) {
      url.searchParams.delete(name);
      for (const one of [item ?? []].flat()) url.searchParams.append(name, one);
    }
    url.searchParams.set("fastws", ""); // says that this client understands envelopes
    return url.href.replace("http", "ws").replace(/#.*/, "");
  }

  /** A socket that was left may report its end much later; that is ignored. */
  #connect(link, socket) {
    const current = (handler) => (event) => this.#link === link && handler(event);
    link.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current((event) => this.#lose(event));
    socket.onerror = () => {}; // `close` follows
  }

  #opened() {
    this.#link.opened = now();
    this.#heard();
    for (const frame of this.#queue.splice(0)) this.#write(frame);
    this.#set("online");
  }

  #write(frame) {
    const socket = this.#link?.socket;
    if (socket?.readyState !== 1) return false;
    socket.send(frame);
    return true;
  }

  #heard() {
    const { beat } = this.#link;
    this.#link.deadline = beat ? now() + beat * 1000 + 10_000 : Infinity;
    this.#link.pingAt = this.#options.heartbeat && !beat ? now() + 25_000 : Infinity;
  }

  /** Timers stop when a computer sleeps, and `readyState` says OPEN for long, so clocks are compared. */
  #check() {
    if (now() > this.#link?.deadline) return this.#lose(LOST);
    if (!(now() >= this.#link?.pingAt)) return;
    Object.assign(this.#link, { pingAt: Infinity, deadline: now() + 10_000 });
    this.#write(JSON.stringify({ [this.#options.tag]: "ping" }));
  }

  #receive(raw) {
    const [frame, data] = unwrap(raw, this.#options.text);
    if (frame?.fastws === "hello") this.#link.beat = frame.beat;
    this.#heard();
    if (!frame) this.#own(data);
    else if (frame.fastws === "message" && data !== undefined) this.#deliver(data, { group: frame.group });
  }

  /** A message of the endpoint itself may be the reply to a request. */
  #own(data) {
    const [tag, call] = [data?.[this.#options.tag], this.#calls.get(data?.id)];
    if (tag === "pong" && this.#options.heartbeat) return;
    if (tag === "error") call?.fail(data.detail, data.status);
    else call?.resolve(data);
    this.#deliver(data, {});
  }

  #deliver(data, about) {
    this.emit("message", data, about);
    const tag = data?.[this.#options.tag];
    if (tag !== "message" && tag !== "status") this.emit(tag, data, about);
  }

  /** Requests that were sent on this connection fail; those that are queued still wait. */
  #drop() {
    const socket = this.#link?.socket;
    this.#link = null;
    this.#timer = clearTimeout(this.#timer);
    if (socket?.readyState < 2) socket.close();
    for (const { frame, fail } of this.#calls.values()) {
      if (!this.#queue.includes(frame)) fail("connection lost");
    }
  }

  async #lose(event) {
    const [{ opened }, { backoff, page = globalThis.location?.href }] = [this.#link, this.#options];
    this.#drop();
    if (opened && now() - opened >= 10_000) this.#attempt = 0;
    this.#unopened = opened ? 0 : this.#unopened + 1;
    const attempt = this.#attempt++;
    let delay = backoff && guarded(backoff, attempt, event);
    if (delay === undefined && FINAL.has(event.code)) delay = null;
    if (delay === null) return this.#finish(REFUSED.has(event.code) ? "refused" : "closed", event);
    delay ??= delayOf(attempt, event);
    this.#set(isOffline() ? "offline" : "waiting", event);
    const gone = !backoff && !opened && this.#unopened % 3 === 0 && (await isGone(page));
    if (this.#link || this.#ended) return;
    if (gone) this.#finish("refused", event);
    else if (!this.#timer) this.#schedule(delay);
  }

  #finish(status, event) {
    this.#ended = true;
    this.#queue = [];
    this.#drop();
    clearInterval(this.#watch);
    this.#listeners.abort();
    this.#set(status, event);
  }
}
