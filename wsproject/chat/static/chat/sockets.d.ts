// Written by `manage.py ws_types`; do not change it. Schemas: ee74784db0caf74f
/* eslint-disable */
/**
 * The answer to a message that was refused: what was wrong, as an HTTP status and FastAPI's `detail`.
 *
 * `id` is that of the call or message that caused the error; a frame without one does not have the key.
 */
export interface ErrorFrame {
  type: "error";
  status: number;
  detail: unknown;
  id?: Id;
}

export type Id = string | number;

/** A message to post; `key` makes it safe to send it twice. */
export interface Post {
  type: "post";
  key: string;
  text: string;
}

/** A message in the room. */
export interface Said {
  type: "said";
  id: number;
  key: string;
  user: string;
  text: string;
  /** Format: date-time. */
  sent_at: string;
}

/** A member is writing a message. */
export interface SomeoneTypes {
  type: "typing";
  user: string;
}

/** The user is writing a message. */
export interface Typing {
  type: "typing";
}

/** The routes by their paths. */
export interface Routes {
  "/ws/chat/{slug}": {
    params: { slug: string };
    query: {};
    up: Post | Typing;
    down: Said | SomeoneTypes | ErrorFrame;
    replies: {};
    tag: "type";
  };
}

declare namespace live {
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
    /** The name under which posts are kept in `sessionStorage`, so that they survive a reload. */
    store?: string;
    /** The class of the sockets (default: the global `WebSocket`). */
    WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
  }

  /** Where a message comes from. One that is not kept has no offset; one of the endpoint itself has no group. */
  export interface About {
    readonly group?: string;
    readonly offset?: number | undefined;
    readonly key?: string | undefined;
  }

  export interface GroupOptions {
    /** The position that the page was rendered with: `epoch:offset`, or an empty text. */
    position?: string;
    /** Fetches what cannot be recovered, and returns the position that the view read before the data. */
    load?: () => string | Promise<string>;
  }

  export interface PresenceChange {
    readonly joined: ReadonlyMap<string, unknown>;
    readonly left: readonly string[];
    /** Whose info is new; after a complete list, everybody who was present before. */
    readonly changed: ReadonlyMap<string, unknown>;
  }

  /** A group of the server. */
  export interface Group {
    /** Who is present, with their info; empty while there are too many to be named. */
    readonly people: ReadonlyMap<string, any>;
    readonly count: number;
    /** The last values. */
    readonly state: ReadonlyMap<string, any>;
    /** Messages in order, each once. */
    on(name: "message", handler: (data: any, about: About) => void): () => void;
    on(name: "presence", handler: (change: PresenceChange) => void): () => void;
    on(name: "state", handler: () => void): () => void;
    /** Something was missed and cannot be recovered; with `load`, it is loaded instead. */
    on(name: "lost", handler: () => void): () => void;
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
    on(tag: string | number | boolean, handler: (message: any, about: About) => void): () => void;

    /** The same as `on("status", handler)`. */
    onStatus(handler: (status: Status, event: Ended | null) => void): () => void;

    /** Send text and bytes as they are, and anything else as JSON. `"kept"`: it is sent once after the next opening. */
    send(data: unknown): "sent" | "kept" | false;

    /** Send a message with an `id` and return the reply with the same one; rejects with a `CallError`. */
    request<Reply = any>(message: object, options?: { timeout?: number }): Promise<Reply>;

    /** A group by its name, with all that is known about it. */
    group(name: string, options?: GroupOptions): Group;

    /** A new key for `post`. */
    key(): string;

    /**
     * Send `{key, ...data}` now and on every later connection, until a group's message has this key or `settle` is
     * called. Returns false if 100 posts or 256 KB are waiting, or after the end.
     */
    post(key: string, data: object): boolean;

    /** Stop sending a post. */
    settle(key: string): void;

    /** Connect now instead of after the delay; also after the end. */
    retry(): void;

    /** Close the socket and make no more attempts. */
    close(code?: number, reason?: string): void;

    /** The messages from now on, until no more attempts are made. */
    [Symbol.asyncIterator](): AsyncGenerator<Down, void, undefined>;
  }
}
type Tag = string | number | boolean;
type Down<P extends keyof Routes> = Routes[P]["down"];
type Up<P extends keyof Routes> = Routes[P]["up"];
type TagOf<P extends keyof Routes, M> = M extends Record<Routes[P]["tag"], infer T> ? Extract<T, Tag> : never;
type Tagged<P extends keyof Routes, M, T> = M extends Record<Routes[P]["tag"], infer Own> ? (T extends Own ? M : never) : never;
type Answered<P extends keyof Routes, M> = M extends Record<Routes[P]["tag"], infer T extends Tag> ? (`${T}` extends keyof Routes[P]["replies"] ? M : never) : never;
type WithoutId<M> = M extends unknown ? Omit<M, "id"> : never;
type Given<Name extends string, T> = {} extends T ? { [K in Name]?: T } : { [K in Name]: T };
type Asked<T> = T | (() => T | Promise<T>);
type AskedFor<Name extends string, T> = {} extends T ? { [K in Name]?: Asked<T> } : { [K in Name]: Asked<T> };

/** The tags of what a route sends, without the two names of events. */
export type Tags<P extends keyof Routes> = Exclude<TagOf<P, Down<P>>, "message" | "status">;

/** The messages that a route replies to, without their `id`. */
export type Requests<P extends keyof Routes> = WithoutId<Answered<P, Up<P>>>;

/** The reply to a request. */
export type ReplyTo<P extends keyof Routes, M> =
  `${TagOf<P, M>}` extends infer T extends keyof Routes[P]["replies"] ? Routes[P]["replies"][T] : never;

/** `params` and `query` are those of the route; `base` is the server, such as `wss://example.com` (default: the page's). */
export type ConnectOptions<P extends keyof Routes> = Given<"params", Routes[P]["params"]> &
  AskedFor<"query", Routes[P]["query"]> &
  Omit<live.LiveOptions, "query" | "tag" | "heartbeat" | "text"> & { base?: string };

/** What `connect` returns. */
export interface Connection<P extends keyof Routes> extends AsyncIterable<Down<P>> {
  /** The client beneath, for groups, presence and state. */
  readonly live: live.Live<Down<P>>;
  readonly status: live.Status;
  /** Call `handler` for every message. Returns a function that removes the handler. */
  on(name: "message", handler: (message: Down<P>, about: live.About) => void): () => void;
  /** Call `handler` for every message with this tag. Returns a function that removes the handler. */
  on<T extends Tags<P>>(tag: T, handler: (message: Tagged<P, Down<P>, T>, about: live.About) => void): () => void;
  onStatus(handler: (status: live.Status, event: live.Ended | null) => void): () => void;
  /** `"kept"`: it is sent once after the next opening; `false`: it is neither sent nor kept. */
  send(message: Up<P>): "sent" | "kept" | false;
  /** Send a message and return its reply; rejects with a `CallError`. The `id` is filled in. */
  request<M extends Requests<P>>(message: M, limits?: { timeout?: number }): Promise<ReplyTo<P, M>>;
  /** Connect now instead of after the delay; also after the end. */
  retry(): void;
  /** Close the socket and make no more attempts. */
  close(code?: number, reason?: string): void;
  [Symbol.asyncIterator](): AsyncGenerator<Down<P>, void, undefined>;
}

type Connect = <P extends keyof Routes>(
  path: P,
  ...options: {} extends ConnectOptions<P> ? [options?: ConnectOptions<P>] : [options: ConnectOptions<P>]
) => Connection<P>;
export type Live<Down = any> = live.Live<Down>;
export type CallError = live.CallError;

export declare const Live: typeof live.Live;
export declare const CallError: typeof live.CallError;
/** Connect to a route. */
export declare const connect: Connect;

export {};
