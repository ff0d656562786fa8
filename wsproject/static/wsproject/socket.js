/**
 * A WebSocket that reconnects: with exponential backoff and full jitter, and at once when the browser is online
 * again or the tab becomes visible. A heartbeat detects connections that were silently lost.
 *
 * States: "connecting", "online", "lost" (reconnecting), "refused" (the session has ended; no more attempts).
 */
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 15_000;
const QUIET = 20_000; // silence after which a ping is sent
const PONG_TIMEOUT = 10_000; // how long the answer to a ping may take

export class LiveSocket {
  #path;
  #on;
  #socket = null;
  #attempts = 0;
  #timer = null;
  #heard = 0;
  #asked = 0;
  #over = false;

  /** `path()` is called for every attempt; `on` has the callbacks `frame(frame)` and `state(name)`. */
  constructor(path, on) {
    this.#path = path;
    this.#on = on;
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#lose(this.#socket));
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
    setInterval(() => this.#listen(), 2_000);
    this.#connect();
  }

  /** Send a frame if the socket is open, and return whether it was sent. */
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Reconnect now instead of waiting for the timer. */
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
    // After a deploy every client gets here at the same time: any moment up to the longest delay is as good.
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempts++);
    this.#timer = setTimeout(() => this.retry(), Math.random() * delay);
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
    if (this.#asked && now - this.#asked > PONG_TIMEOUT) this.#lose(this.#socket);
    else if (!this.#asked && now - this.#heard > QUIET && this.send({ type: "ping" })) this.#asked = now;
  }
}

/** Browsers hide why a handshake failed, so check whether this user may still load the page. */
async function pageIsGone() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    return answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status);
  } catch {
    return false; // the server cannot be reached; it may come back
  }
}
