import { CallError, connect } from "./sockets.js";
import type { Found, Said } from "./sockets.js";

let last = 0;
const room = connect("/ws/rooms/{slug}", { params: { slug: "lobby" }, query: () => ({ after: last }) });
room.on("said", (said) => { last = said.number; const exact: Said = said; console.log(exact); });
room.send({ type: "post", text: "hi" });
const found: Promise<Found> = room.request({ type: "search", q: "x" });
found.catch((error) => { if (error instanceof CallError) console.log(error.status, error.detail); });
room.onStatus((status, event) => { if (event?.code === 4401) console.log(status); });
async function all(): Promise<void> {
  for await (const message of room) console.log(message.type satisfies "said" | "found" | "error");
}
void all();
connect("/ws/actions").send({ action: "do" });
connect("/ws/text").send("text");
connect("/ws/upload").send(new ArrayBuffer(1));
connect("/ws/prices/{symbol}", { params: { symbol: "a" }, base: "wss://example.com" });
connect("/ws/actions").on("done", (done) => done.action satisfies "done");
connect("/ws/trees").on("tree", (tree) => { const child = tree.children[0]; if (child) console.log(child.name); });

// @ts-expect-error: no such route
connect("/ws/nowhere");
// @ts-expect-error: the parameter is missing
connect("/ws/rooms/{slug}");
// @ts-expect-error: a parameter of another type
connect("/ws/rooms/{slug}", { params: { slug: "a" }, query: { after: "x" } });
// @ts-expect-error: not one of the values
connect("/ws/prices/{symbol}", { params: { symbol: "c" } });
// @ts-expect-error: a wrong key
room.send({ type: "post", txt: "hi" });
// @ts-expect-error: a key too many
room.send({ type: "post", text: "hi", more: 1 });
// @ts-expect-error: what the server sends is not what it takes
room.send({ type: "said" });
// @ts-expect-error: a stream reads nothing
connect("/ws/prices/{symbol}", { params: { symbol: "a" } }).send("x");
// @ts-expect-error: no reply is declared for it
void room.request({ type: "post", text: "hi" });
// @ts-expect-error: no message has this tag
room.on("nothing", () => {});
// @ts-expect-error: optional properties do not take undefined
room.send({ type: "post", text: "hi", color: undefined });
