/** A typed client of one route. The `Live` beneath, for groups, presence and state, is `live`. */
export function connect(path, { params = {}, base = "", ...options } = {}) {
  const { paths = [], ...route } = ROUTES[path] ?? {};
  const encoded = (name) => {
    const parts = paths.includes(name) ? String(params[name]).split("/") : [params[name]];
    return parts.map(encodeURIComponent).join("/");
  };
  const address = path.replace(/\{(\w+)\}/g, (_, name) => encoded(name));
  const live = new Live(base.replace(/^ws/, "http").replace(/\/$/, "") + address, { queue: 100, ...route, ...options });
  return {
    live,
    get status() { return live.status; },
    on: (name, handler) => live.on(name, handler),
    onStatus: (handler) => live.onStatus(handler),
    send: (message) => live.send(message),
    request: (message, limits) => live.request(message, limits),
    retry: () => live.retry(),
    close: (code, reason) => live.close(code, reason),
    [Symbol.asyncIterator]: () => live[Symbol.asyncIterator](),
  };
}
