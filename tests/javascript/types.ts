// What a page in TypeScript writes; `tsc --strict` checks it against live.d.ts.
import { CallError, Live } from "./live.js";
import type { Ended, Status } from "./live.js";

interface Said { type: "said"; number: number; text: string }
interface Found { type: "found"; id: string | number; hits: Said[] }

let last = 0;
const live = new Live<Said | Found>("/ws/rooms/lobby", {
  query: async () => ({ after: last, tag: ["a", "b"] }),
  protocols: () => ["fastws"],
  queue: 100,
  heartbeat: true,
  backoff: (attempt: number, event: Ended) => (event.code === 4401 ? null : attempt * 1000),
});
const stop: () => void = live.on("said", (said: Said) => { last = said.number; });
live.on("message", (message, { group }) => {
  if (message.type === "found") console.log(message.hits.length, group?.toUpperCase());
  // @ts-expect-error: `hits` is not in every message
  message.hits;
});
live.onStatus((status, event) => { if (event?.code === 4401) location.reload(); console.log(status); });
const sent: "sent" | "kept" | false = live.send({ type: "post", text: "hi" });
const status: Status = live.status;

async function main(): Promise<void> {
  try {
    const found = await live.request<Found>({ type: "search", q: "x" }, { timeout: 500 });
    console.log(found.hits.map(({ text }) => text));
  } catch (error) {
    if (error instanceof CallError && error.status === 422) console.log(error.detail);
  }
  for await (const message of live) console.log(message.type);
}

const room = live.group("room.7", { position: "k3x9ab2c:17", load: async () => (await fetch("/rooms/7/")).text() });
room.on("message", (data, { offset, key }) => console.log(data, offset?.toFixed(), key));
room.on("presence", ({ joined, left, changed }) => console.log(joined.size, left.length, changed.get("7"), room.count));
room.on("state", () => console.log([...room.state.keys()], room.people.size));
room.on("lost", () => location.reload());
const posted: boolean = live.post(live.key(), { text: "hi" });
live.settle("key");
// @ts-expect-error: a group has no such event
room.on("gone", () => {});

new Live(new URL("wss://example.com/ws"));
new Live(async () => "/ws", { WebSocket });
// @ts-expect-error: there is no such status
live.onStatus((given) => given === "open");
// @ts-expect-error: a number of messages
new Live("/ws", { queue: "100" });
// @ts-expect-error: the status is the client's
live.status = "online";
// @ts-expect-error: a request sends an object
live.request("search");

void [posted, stop, sent, status, main];
