/**
 * A WebSocket that comes back: exponential backoff with jitter, at once when the browser is back online
 * or the tab is looked at, and a heartbeat that notices a connection which died in silence.
 *
 * States: "connecting", "online", "lost" (trying again), "refused" (the session is over; it gave up).
 */
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const QUIET = 20_000; // then the server is asked whether it is there
const PATIENCE = 10_000; // how long its answer may take

export class LiveSocket {
  #path;
  #on;
  #socket = null;
  #attempts = 0;
  #timer = null;
  #heard = 0;
  #asked = 0;
  #over = false;

  /** `path()` is asked again for every attempt; `on` has `frame(frame)` and `state(name)`. */
  constructor(path, on) {
    this.#path = path;
    this.#on = on;
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#lose(this.#socket));
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
    setInterval(() => this.#listen(), 2_000);
    this.#connect();
  }

  /** Send a frame if there is somebody to hear it. */
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Try again now instead of later. */
  retry() {
    if (this.#socket === null && !this.#over) this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    const url = new URL(this.#path(), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    let opened = false;
    this.#socket = socket;
    this.#on.state(this.#attempts ? "lost" : "connecting");
    socket.onopen = () => {
      opened = true;
      this.#heard = Date.now();
      this.#asked = 0;
      this.#on.state("online");
    };
    socket.onmessage = ({ data }) => {
      this.#heard = Date.now();
      this.#asked = 0;
      this.#attempts = 0;
      const frame = JSON.parse(data);
      if (frame.type !== "pong") this.#on.frame(frame);
    };
    socket.onclose = ({ code }) => this.#lose(socket, !opened || code === 1008 || code >= 4400);
  }

  async #lose(socket, refused = false) {
    if (socket === null || socket !== this.#socket) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#on.state("lost");
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempts++);
    this.#timer = setTimeout(() => this.retry(), delay / 2 + (Math.random() * delay) / 2);
    if (refused && (await pageIsGone()) && this.#socket === null) this.#giveUp();
  }

  #giveUp() {
    clearTimeout(this.#timer);
    this.#over = true;
    this.#on.state("refused");
  }

  #listen() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const now = Date.now();
    if (this.#asked && now - this.#asked > PATIENCE) this.#lose(this.#socket);
    else if (!this.#asked && now - this.#heard > QUIET && this.send({ type: "ping" })) this.#asked = now;
  }
}

/** A browser does not tell why a handshake failed, so ask whether this user may still see the page. */
async function pageIsGone() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    return answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status);
  } catch {
    return false; // no server at all: it may come back
  }
}
