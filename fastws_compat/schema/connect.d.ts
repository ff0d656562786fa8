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
