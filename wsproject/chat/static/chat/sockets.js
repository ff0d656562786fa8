// Written by `manage.py ws_types`; do not change it. Schemas: ee74784db0caf74f
/* eslint-disable */
/**
 * A WebSocket that reconnects, and groups that recover what they missed.
 * Guide: docs/howto/live-client.md. Types: live.d.ts.
 */

const FINAL = new Set([1000, 1003, 1007, 1008, 1009, 4401, 4403, 4404, 4422]);
const /** @type {any} */ LOST = { code: 1006, reason: "" };
const ENVELOPE = /^\s*\{\s*"fastws"\s*:/;
const BURST = 10; // posts a second: below usual rate limits

let /** @type {any} */ [last, lag] = [0, 0];
/** Counts sleep, and never runs backwards. */
const /** @type {any} */ now = () => (lag += Math.max(0, last - (last = Date.now()))) + last;
const /** @type {any} */ upTo = (/** @type {any} */ ms) => Math.random() * ms;
const /** @type {any} */ longest = (/** @type {any} */ attempt) => Math.min(30_000, 1000 * 2 ** attempt);
const ask = async (/** @type {any} */ option) => (typeof option === "function" ? option() : option);
const /** @type {any} */ report = (/** @type {any} */ error) => (globalThis.reportError ?? console.error)(error);
const /** @type {any} */ isHidden = () => globalThis.document?.visibilityState === "hidden";
const /** @type {any} */ mapOf = (/** @type {any} */ object) => new Map(Object.entries(object ?? {}));
const /** @type {any} */ parts = (/** @type {any} */ position) => String(position ?? "").split(":");

/** An error of the page is reported, and stops nothing. */
function guarded(/** @type {any} */ call, /** @type {any[]} */ ...values) {
  try {
    return call(...values);
  } catch (error) {
    report(error);
  }
}

const /** @type {any} */ parsed = (/** @type {any} */ text) => {
  try { return JSON.parse(text); } catch { return text; }
};

/** The envelope, which the endpoint's own frames lack, and the data. */
function unwrap(/** @type {any} */ raw, /** @type {any} */ isText) {
  let /** @type {any} */ [head, rest] = [raw, undefined];
  if (typeof raw !== "string") {
    const [high = 0, low = 0] = new Uint8Array(raw);
    const end = 2 + high * 256 + low;
    [head, rest] = [new TextDecoder().decode(raw.slice(2, end)), raw.slice(end)];
  }
  if (!ENVELOPE.test(head)) return [null, isText || rest ? raw : parsed(raw)];
  const frame = parsed(head);
  return [frame, rest ?? (frame.data === undefined ? frame.text : frame.data)];
}

/** Random, so that clients do not return together. */
function delayOf(/** @type {any} */ attempt, /** @type {any} */ { code, reason }) {
  const spread = 1000 * +(/\bspread=([\d.]+)/.exec(reason)?.[1] ?? 2);
  // Too slow a client (1013) returns later each time.
  const windows = new Map([[1012, spread], [1013, Math.max(spread, attempt && longest(attempt))]]);
  return upTo(windows.get(code) ?? longest(attempt)) + (isHidden() ? 30_000 : 0);
}

/** Browsers hide why a handshake failed; the page may tell. */
async function isGone(/** @type {any} */ page) {
  try {
    const { type, status } = await fetch(page, {
      method: "HEAD", redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(10_000),
    });
    return type === "opaqueredirect" || [302, 401, 403, 404].includes(status);
  } catch {
    return false; // the server may come back
  }
}

export class CallError extends Error {
  constructor(/** @type {any} */ status, /** @type {any} */ detail) {
    super(typeof detail === "string" ? detail : JSON.stringify(detail));
    Object.assign(this, { name: "CallError", status, detail });
  }
}

class Events {
  /** @type {any} */ #handlers = new Map();

  on(/** @type {any} */ name, /** @type {any} */ handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  emit(/** @type {any} */ name, /** @type {any[]} */ ...values) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) guarded(handler, ...values);
  }
}

class Group extends Events {
  /** @type {any} */ people = new Map();
  /** @type {any} */ count = 0;
  /** @type {any} */ state = new Map();
  /** @type {any} */ #epoch = "";
  /** @type {any} */ #offset = 0;
  /** @type {any} */ #version = "";
  /** @type {any} */ #lacks; // all values
  /** @type {any} */ #first = ":-"; // never joined
  /** @type {any} */ #load;
  /** @type {any} */ #loaded = 0; // `load` covers all up to this offset
  /** @type {any} */ #held; // waits for `load`
  /** @type {any} */ #stale;

  configure(/** @type {any} */ { position, load = this.#load }) {
    this.#load = load;
    const [epoch, offset] = parts(position);
    if (!this.#epoch) this.#moveTo(epoch, offset);
  }

  get claim() {
    const known = !this.#lacks && this.#epoch + this.#version;
    return known && `:${this.#epoch}:${this.#offset}${this.#version || this.#first}`;
  }

  #moveTo(/** @type {any} */ epoch = "", /** @type {any} */ offset = null, /** @type {any} */ lacks = false) {
    [this.#epoch, this.#offset, this.#lacks] = [epoch ?? "", Number(offset), lacks];
  }

  /** Held messages can go: the next `load` begins later and covers them. */
  #catchUp() {
    if (!this.#load) return this.emit("lost");
    const isLoading = this.#held;
    [this.#held, this.#stale] = [[], true];
    if (!isLoading) this.#reload();
  }

  async #reload() {
    for (let attempt = 0; this.#held; attempt++) {
      this.#stale = false;
      const [epoch, offset] = parts(await ask(this.#load).catch(report));
      if (this.#held && !this.#stale && epoch === this.#epoch) {
        const held = this.#held;
        [this.#held, this.#loaded] = [null, Number(offset ?? 0)];
        return held.forEach((/** @type {any} */ pass) => pass());
      }
      await new Promise((/** @type {any} */ resolve) => setTimeout(resolve, upTo(longest(attempt))));
    }
  }

  "fastws:joined"(/** @type {any} */ { epoch, offset, recovered, state }) {
    // Joined before, yet the URL had no position.
    const missed = !(recovered ?? !(epoch && !this.#first));
    const unloaded = this.#load && !this.#epoch;
    this.#first = "";
    if (!recovered || state || epoch !== this.#epoch) this.#moveTo(epoch, offset, state);
    if (missed || unloaded) this.#catchUp();
  }

  "fastws:lost"(/** @type {any} */ { epoch, offset, state }) {
    this.#moveTo(epoch, offset, state);
    this.#catchUp();
  }

  "fastws:left"() {
    [this.#version, this.#held] = ["", null];
    this.#moveTo();
  }

  "fastws:message"(/** @type {any} */ { offset, key }, /** @type {any} */ data) {
    if (offset <= this.#offset) return;
    this.#offset = offset ?? this.#offset; // what is not kept has no offset
    if (data === undefined) return; // this socket was excluded
    const /** @type {any} */ pass = () => offset <= this.#loaded || this.emit("message", data, { offset, key });
    if (!this.#held) pass();
    else if (this.#held.push(pass) > 1000) this.#catchUp();
  }

  "fastws:state"(/** @type {any} */ { offset, all, set, del = [] }) {
    if (!all && offset <= this.#offset) return;
    this.#lacks &&= !all;
    this.#offset = Math.max(this.#offset, offset);
    this.state = new Map([...(all ? [] : this.state), ...mapOf(all), ...mapOf(set)]);
    for (const key of del) this.state.delete(key);
    this.emit("state");
  }

  "fastws:presence"(/** @type {any} */ { version, count, all, joined, left, changed }) {
    const before = all || joined || left || changed ? this.people : new Map(); // too many are only counted
    [joined, left, changed] = [mapOf(joined), left ?? [], mapOf(changed)];
    if (all) left = [...before.keys()].filter((/** @type {any} */ key) => !Object.hasOwn(all, key));
    for (const [key, info] of mapOf(all)) (before.has(key) ? changed : joined).set(key, info);
    this.people = new Map([...before, ...joined, ...changed]);
    for (const key of left) this.people.delete(key);
    this.count = count ?? this.people.size;
    if (version !== undefined) this.#version = `:${version}`;
    this.emit("presence", { joined, left, changed });
  }
}

export class Live extends Events {
  /** @type {any} */ status = "connecting";
  /** @type {any} */ #url;
  /** @type {any} */ #options;
  /** @type {any} */ #groups = new Map();
  /** @type {any} */ #store;
  /** @type {any} */ #posts;
  /** @type {any} */ #calls = new Map();
  /** @type {any} */ #queue = [];
  /** @type {any} */ #link = null; // the connection, or the attempt at one
  /** @type {any} */ #ids = []; // for `exclude`
  /** @type {any} */ #attempt = 0;
  /** @type {any} */ #unopened = 0;
  /** @type {any} */ #ended = true;
  /** @type {any} */ #timer;
  /** @type {any} */ #listeners;

  /** @type {any} */ key = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
  /** @type {any} */ onStatus = (/** @type {any} */ handler) => this.on("status", handler);
  /** @type {any} */ settle = (/** @type {any} */ key) => { if (this.#posts.delete(key)) this.#keep(); };

  constructor(/** @type {any} */ url, /** @type {any} */ options = {}) {
    super();
    this.#url = url;
    this.#options = { tag: "type", queue: 0, ...options };
    this.#store = options.store && `fastws:${options.store}`;
    const kept = this.#store && guarded(() => sessionStorage.getItem(this.#store));
    this.#posts = new Map(JSON.parse(kept || "[]"));
    this.retry();
  }

  group(/** @type {any} */ name, /** @type {any} */ options = {}) {
    const group = this.#groups.get(name) ?? new Group();
    const /** @type {any} */ pass = (/** @type {any} */ data, /** @type {any} */ about) => this.#deliver(data, { ...about, group: name });
    if (!this.#groups.delete(name)) group.on("message", pass);
    this.#groups.set(name, group); // most recent last
    group.configure(options);
    return group;
  }

  send(/** @type {any} */ data) {
    const isRaw = typeof data === "string" || data?.byteLength >= 0 || data instanceof Blob;
    const frame = isRaw ? data : JSON.stringify(data);
    if (this.#write(frame)) return "sent";
    if (this.#ended || this.#queue.length >= this.#options.queue) return false;
    this.#queue.push(frame);
    return "kept";
  }

  request(/** @type {any} */ message, /** @type {any} */ { timeout = 10_000 } = {}) {
    const id = this.key(), frame = JSON.stringify({ ...message, id });
    return new Promise((/** @type {any} */ resolve, /** @type {any} */ reject) => {
      const /** @type {any} */ fail = (/** @type {any} */ detail, /** @type {any} */ status = 0) => reject(new CallError(status, detail));
      const timer = setTimeout(fail, Math.min(timeout, 2e9), "no reply in time");
      this.#calls.set(id, { frame, resolve, fail, timer });
      if (!this.send(frame)) fail("not connected");
    }).finally(() => {
      clearTimeout(this.#calls.get(id).timer);
      this.#calls.delete(id);
      this.#queue = this.#queue.filter((/** @type {any} */ kept) => kept !== frame);
    });
  }

  post(/** @type {any} */ key, /** @type {any} */ data) {
    const posts = new Map(this.#posts).set(key, JSON.stringify({ key, ...data }));
    if (this.#ended || posts.size > 100 || [...posts.values()].join("").length > 256 * 1024) return false;
    this.#keep(posts);
    this.#link?.posted.delete(key);
    this.#sendPosts();
    return true;
  }

  retry() {
    this.#drop();
    this.#attempt = this.#unopened = 0;
    if (this.#ended) this.#listen();
    this.#ended = false;
    queueMicrotask(() => this.#open()); // once the page has named its groups
  }

  close(/** @type {any} */ code = 1000, /** @type {any} */ reason = "") {
    this.#link?.socket?.close(code, reason);
    this.#finish("closed", null);
  }

  async *[Symbol.asyncIterator]() {
    const /** @type {any} */ messages = [];
    let /** @type {any} */ wake = (/** @type {any} */ _ = 0) => {};
    const /** @type {any} */ stops = [this.on("message", (/** @type {any} */ data) => wake(messages.push(data))), this.onStatus(() => wake())];
    try {
      while (messages.length || !this.#ended) {
        if (messages.length) yield messages.shift();
        else await new Promise((/** @type {any} */ resolve) => (wake = resolve));
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  #listen() {
    const watch = setInterval(() => this.#check(), 5000);
    const /** @type {any} */ { signal } = (this.#listeners = new AbortController());
    signal.onabort = () => clearInterval(watch);
    const /** @type {any} */ listen = (/** @type {any} */ name, /** @type {any} */ act, /** @type {any} */ on = null) => (on ?? globalThis).addEventListener?.(name, act, { signal });
    for (const name of ["online", "pageshow"]) listen(name, () => this.#wake());
    listen("visibilitychange", () => isHidden() || this.#wake(), globalThis.document);
    listen("focus", () => this.#check());
    listen("offline", () => (this.#link ? this.#lose(LOST) : this.#set("offline")));
    // An open socket keeps a page out of the back/forward cache.
    listen("pagehide", () => { this.#drop(); this.#set("waiting"); });
  }

  #wake() {
    if (this.#link) return this.#check();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), upTo(300));
  }

  #set(/** @type {any} */ status, /** @type {any} */ event = null) {
    if (status === this.status) return;
    this.status = status;
    this.emit("status", status, event);
  }

  async #open() {
    if (this.#link || this.#ended) return;
    const /** @type {any} */ link = (this.#link = { socket: null, deadline: now() + 30_000, posted: new Set(), allowed: BURST });
    this.#set("connecting");
    const { protocols = [], WebSocket: Socket = WebSocket } = this.#options;
    try {
      const /** @type {any} */ given = [await this.#address(), await ask(protocols)];
      if (this.#link !== link) return;
      const /** @type {any} */ socket = (link.socket = new Socket(...given));
      // An abandoned socket is ignored.
      const /** @type {any} */ current = (/** @type {any} */ handler) => (/** @type {any} */ event) => this.#link === link && handler(event);
      socket.binaryType = "arraybuffer";
      socket.onopen = current(() => this.#opened());
      socket.onmessage = current((/** @type {any} */ { data }) => this.#receive(data));
      socket.onclose = current((/** @type {any} */ event) => this.#lose(event));
      socket.onerror = () => {}; // `close` follows
    } catch (error) {
      report(error);
      if (this.#link === link) this.#lose(LOST);
    }
  }

  async #address() {
    const url = new URL(await ask(this.#url), globalThis.location?.href);
    for (const [name, item] of mapOf(await ask(this.#options.query))) {
      url.searchParams.delete(name);
      for (const one of [item ?? []].flat()) url.searchParams.append(name, one);
    }
    const claims = this.#ids.map((/** @type {any} */ id) => `@${id}`);
    for (const [name, { claim }] of [...this.#groups].reverse()) {
      if (claim && `${claims}${name}${claim}`.length < 4000) claims.push(name + claim);
    }
    url.searchParams.set("fastws", claims.join());
    return url.href.replace(/^http/, "ws").replace(/#.*/, "");
  }

  #opened() {
    this.#link.opened = now();
    this.#heard();
    for (const frame of this.#queue.splice(0)) this.#write(frame);
    this.#sendPosts();
    this.#set("online");
  }

  #sendPosts() {
    const link = this.#link;
    for (const [key, text] of this.#posts) {
      if (!link?.allowed || link.posted.has(key) || !this.#write(text)) continue;
      link.posted.add(key);
      link.allowed -= 1;
      link.pause ??= setTimeout(() => {
        [link.allowed, link.pause] = [BURST, null];
        this.#sendPosts();
      }, 1000);
    }
  }

  #keep(/** @type {any} */ posts = this.#posts) {
    this.#posts = posts;
    if (this.#store) guarded(() => sessionStorage.setItem(this.#store, JSON.stringify([...posts])));
  }

  #write(/** @type {any} */ frame) {
    const socket = this.#link?.socket;
    if (socket?.readyState !== 1) return false;
    socket.send(frame);
    return true;
  }

  #heard() {
    const /** @type {any} */ [link, { heartbeat }] = [this.#link, this.#options];
    link.deadline = link.beat ? now() + link.beat * 1000 + 10_000 : Infinity;
    link.pingAt = heartbeat && !link.beat ? now() + 25_000 : Infinity;
  }

  #check() {
    if (now() > this.#link?.deadline) return this.#lose(LOST);
    if (!(now() >= this.#link?.pingAt)) return;
    Object.assign(this.#link, { pingAt: Infinity, deadline: now() + 10_000 });
    this.#write(JSON.stringify({ [this.#options.tag]: "ping" }));
  }

  #receive(/** @type {any} */ raw) {
    const [frame, data] = unwrap(raw, this.#options.text);
    if (frame?.id) [this.#ids, this.#link.beat] = [[...this.#ids, frame.id].slice(-8), frame.beat]; // hello
    this.#heard();
    if (!frame) return this.#deliver(data, {});
    if (frame.key !== undefined) this.settle(frame.key);
    if (frame.group !== undefined) this.group(frame.group)[`fastws:${frame.fastws}`]?.(frame, data);
  }

  #deliver(/** @type {any} */ data, /** @type {any} */ about) {
    const /** @type {any} */ [tag, call] = [data?.[this.#options.tag], this.#calls.get(data?.id)];
    if (this.#options.heartbeat && (tag ?? parsed(data)?.[this.#options.tag]) === "pong") return;
    if (tag === "error") call?.fail(data.detail, data.status);
    else call?.resolve(data);
    this.emit("message", data, about);
    if (tag !== "message" && tag !== "status") this.emit(tag, data, about);
  }

  /** Sent requests fail; those queued wait. */
  #drop() {
    const socket = this.#link?.socket;
    this.#link = null;
    this.#timer = clearTimeout(this.#timer);
    if (socket?.readyState < 2) socket.close();
    for (const { frame, fail } of this.#calls.values()) {
      if (!this.#queue.includes(frame)) fail("connection lost");
    }
  }

  async #lose(/** @type {any} */ event) {
    const /** @type {any} */ [{ opened }, { backoff, page = globalThis.location?.href }] = [this.#link, this.#options];
    this.#drop();
    if (opened && now() - opened >= 10_000) this.#attempt = 0;
    this.#unopened = opened ? 0 : this.#unopened + 1;
    const attempt = this.#attempt++;
    let delay = backoff && guarded(backoff, attempt, event);
    if (delay === undefined && FINAL.has(event.code)) delay = null;
    if (delay === null) return this.#finish([4401, 4403].includes(event.code) ? "refused" : "closed", event);
    delay ??= delayOf(attempt, event);
    this.#set(globalThis.navigator?.onLine === false ? "offline" : "waiting", event);
    const gone = !backoff && !opened && this.#unopened % 3 === 0 && (await isGone(page));
    if (this.#link || this.#ended) return;
    if (gone) this.#finish("refused", event);
    else this.#timer ??= setTimeout(() => this.#open(), delay);
  }

  #finish(/** @type {any} */ status, /** @type {any} */ event) {
    this.#ended = true;
    this.#queue = [];
    this.#drop();
    this.#listeners.abort();
    for (const group of this.#groups.values()) group["fastws:left"]();
    if (status === "refused") this.#keep(new Map()); // another user may log in here
    this.#set(status, event);
  }
}

const /** @type {any} */ ROUTES = {
  "/ws/chat/{slug}": {
    "heartbeat": true
  }
};

/** A typed client of one route. The `Live` beneath, for groups, presence and state, is `live`. */
export function connect(/** @type {any} */ path, /** @type {any} */ { params = {}, base = "", ...options } = {}) {
  const { paths = [], ...route } = ROUTES[path] ?? {};
  const /** @type {any} */ encoded = (/** @type {any} */ name) => {
    const parts = paths.includes(name) ? String(params[name]).split("/") : [params[name]];
    return parts.map(encodeURIComponent).join("/");
  };
  const address = path.replace(/\{(\w+)\}/g, (/** @type {any} */ _, /** @type {any} */ name) => encoded(name));
  const live = new Live(base.replace(/^ws/, "http").replace(/\/$/, "") + address, { queue: 100, ...route, ...options });
  return {
    live,
    get status() { return live.status; },
    on: (/** @type {any} */ name, /** @type {any} */ handler) => live.on(name, handler),
    onStatus: (/** @type {any} */ handler) => live.onStatus(handler),
    send: (/** @type {any} */ message) => live.send(message),
    request: (/** @type {any} */ message, /** @type {any} */ limits) => live.request(message, limits),
    retry: () => live.retry(),
    close: (/** @type {any} */ code, /** @type {any} */ reason) => live.close(code, reason),
    [Symbol.asyncIterator]: () => live[Symbol.asyncIterator](),
  };
}
