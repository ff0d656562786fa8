// A page without a browser: its clock, its chance, its events, its network and its server are the test's.
import { after } from "node:test";

const { LIVE } = process.env; // the URL of the module under test
export const { Live, CallError } = await import(LIVE);

const turn = () => new Promise((resolve) => setImmediateNow(resolve));
const setImmediateNow = setImmediate;

/** Let everything run that waits for no timer. */
export async function settle() {
  for (let n = 0; n < 5; n++) await turn();
}

class Clock {
  now = 1_000_000;
  ahead = 0; // how far the wall clock is ahead of the timers
  timers = new Map();
  #ids = 0;

  set(call, delay, repeat, values) {
    if (delay > 2 ** 31 - 1) delay = 0; // as in browsers and in Node
    this.timers.set(++this.#ids, { call, at: this.now + delay, repeat: repeat && delay, values });
    return this.#ids;
  }

  async advance(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      const [id, timer] = due;
      this.now = Math.max(this.now, timer.at);
      if (timer.repeat) timer.at += timer.repeat;
      else this.timers.delete(id);
      timer.call(...timer.values);
      await settle();
    }
    this.now = end;
  }

  /** Time passes, but no timer runs: the computer slept, or the browser held the page. */
  sleep(ms) {
    this.now += ms;
  }
}

/** The last socket is `sockets.at(-1)`; the test speaks for the server. */
class Socket {
  readyState = 0;
  sent = [];
  closed = null;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    sockets.push(this);
  }

  send(data) {
    this.sent.push(data);
  }

  close(code, reason) {
    this.closed = { code, reason };
    this.readyState = 2;
  }

  open() {
    this.readyState = 1;
    this.onopen({});
    return this;
  }

  say(data) {
    this.onmessage({ data: data instanceof ArrayBuffer ? data : JSON.stringify(data) });
  }

  raw(data) {
    this.onmessage({ data });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

export let storage, clock, page, sockets, random, answers, asked, reported;

/** A fresh page. Timers, chance and the network of Node are replaced until the test process ends. */
export function freshPage() {
  storage = new Map();
  [clock, page, sockets, random, answers, asked, reported] = [new Clock(), new EventTarget(), [], () => 0.5, [], [], []];
  page.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  page.navigator = { onLine: true };
  const fakes = {
    Date: class extends Date { static now = () => clock.now + clock.ahead; },
    setTimeout: (call, delay, ...values) => clock.set(call, delay, false, values),
    setInterval: (call, delay, ...values) => clock.set(call, delay, true, values),
    clearTimeout: (id) => void clock.timers.delete(id),
    clearInterval: (id) => void clock.timers.delete(id),
    addEventListener: (...given) => page.addEventListener(...given),
    document: page.document,
    navigator: page.navigator,
    location: { href: "https://example.com/rooms/lobby/?tab=1#top" },
    WebSocket: Socket,
    sessionStorage: { getItem: (key) => storage.get(key) ?? null, setItem: (key, text) => storage.set(key, text) },
    reportError: (error) => reported.push(error.message),
    async fetch(url, options) {
      asked.push([url, options.method, options.redirect, options.cache]);
      const answer = await (answers.length > 1 ? answers.shift() : answers[0]);
      if (answer instanceof Error) throw answer;
      return answer ?? { type: "basic", status: 200 };
    },
  };
  for (const [name, value] of Object.entries(fakes)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  Math.random = () => random();
}

export const chance = (next) => (random = next);
export const server = () => sockets.at(-1);
export const happens = (name, target = page) => target.dispatchEvent(new Event(name));

export function show(visibilityState) {
  page.document.visibilityState = visibilityState;
  happens("visibilitychange", page.document);
}

/** A client whose first attempt is being made. */
export async function client(url = "/ws/room", options = {}) {
  const live = new Live(url, options);
  live.seen = [];
  live.onStatus((status, event) => live.seen.push(event ? [status, event.code] : status));
  lives.push(live);
  await settle();
  return live;
}

/** A client that is connected. */
export async function connected(url, options) {
  const live = await client(url, options);
  server().open();
  return live;
}

/** How long it takes until another attempt is made; at most `limit`. */
export async function untilAttempt(limit = 120_000) {
  const [before, begin] = [sockets.length, clock.now];
  await settle();
  while (sockets.length === before && clock.now - begin < limit) {
    const next = Math.min(...[...clock.timers.values()].map(({ at }) => at));
    if (!Number.isFinite(next)) return Infinity;
    await clock.advance(next - clock.now);
  }
  return sockets.length > before ? clock.now - begin : Infinity;
}

const lives = [];
after(() => lives.forEach((live) => live.close()));
