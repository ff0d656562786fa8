/** What `live.js` exports. How to use it: docs/howto/live-client.md. */

/**
 * - `connecting`: an attempt is being made
 * - `online`: the socket is open
 * - `waiting`: the next attempt is due after a random delay
 * - `offline`: as `waiting`, and the browser says that it has no network
 * - `refused`: the login has ended, or the page is gone; no more attempts
 * - `closed`: `close()` was called, or the server closed with a final code; no more attempts
 */
export type Status = "connecting" | "online" | "waiting" | "offline" | "refused" | "closed";

/** What is known about the end of a connection or of an attempt; a `CloseEvent` if the socket reported it. */
export interface Ended {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

export type Frame = string | ArrayBuffer | ArrayBufferView;
export type Query = Record<string, unknown>;
type Asked<T> = T | (() => T | Promise<T>);

export interface LiveOptions {
  /** Parameters of the query string. A function is called for each attempt, and may be async. */
  query?: Asked<Query | null | undefined>;
  /** Subprotocols. A function is called for each attempt, and may be async. */
  protocols?: Asked<string | string[]>;
  /** How many messages `send` keeps while there is no connection (default: 0). */
  queue?: number;
  /** The field that tells messages apart, for `on(tag)`, error frames and pings (default: `"type"`). */
  tag?: string;
  /** Whether the route answers pings (`heartbeat=True`), so that a lost connection is noticed. */
  heartbeat?: boolean;
  /** Whether the endpoint's text frames are text and not JSON. */
  text?: boolean;
  /** The page that is asked for after three refused handshakes (default: the current one). */
  page?: string | URL;
  /** The delay in ms before the next attempt, `null` to stop, `undefined` for the default. Overrides final codes. */
  backoff?: (attempt: number, event: Ended) => number | null | undefined;
  /** The class of the sockets (default: the global `WebSocket`). */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
}

/** Where a message comes from; messages of the endpoint itself have no group. */
export interface About {
  readonly group?: string;
}

/** Why a request has no reply. */
export class CallError extends Error {
  /** The status of the error frame; 0 if no reply came, for instance because the connection was lost. */
  readonly status: number;
  /** The detail of the error frame, or a text. */
  readonly detail: unknown;
  constructor(status: number, detail: unknown);
}

/** A WebSocket that reconnects. `Down` is the union of the messages that the server sends. */
export class Live<Down = any> implements AsyncIterable<Down> {
  readonly status: Status;

  /** Connect to a URL, which may be relative. A function is called for each attempt, and may be async. */
  constructor(url: Asked<string | URL>, options?: LiveOptions);

  /** Call `handler` when the status changes. Returns a function that removes the handler. */
  on(name: "status", handler: (status: Status, event: Ended | null) => void): () => void;
  /** Call `handler` for every message. Returns a function that removes the handler. */
  on(name: "message", handler: (message: Down, about: About) => void): () => void;
  /** Call `handler` for every message with this tag. Returns a function that removes the handler. */
  on(tag: string, handler: (message: any, about: About) => void): () => void;

  /** The same as `on("status", handler)`. */
  onStatus(handler: (status: Status, event: Ended | null) => void): () => void;

  /** Send text and bytes as they are, and anything else as JSON. `"kept"`: it is sent once after the next opening. */
  send(data: unknown): "sent" | "kept" | false;

  /** Send a message with an `id` and return the reply with the same one; rejects with a `CallError`. */
  request<Reply = any>(message: object, options?: { timeout?: number }): Promise<Reply>;

  /** Connect now instead of after the delay; also after the end. */
  retry(): void;

  /** Close the socket and make no more attempts. */
  close(code?: number, reason?: string): void;

  /** The messages from now on, until no more attempts are made. */
  [Symbol.asyncIterator](): AsyncGenerator<Down, void, undefined>;
}
