// Every JavaScript block of the documentation, run against a scripted server.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, beforeEach, test } from "node:test";

import { client, clock, freshPage, Live, server, settle, sockets } from "./harness.mjs";

const DOCS = `${process.env.ROOT}/docs/`;
const AsyncFunction = (async () => {}).constructor;
const blocks = new Map();
for (const page of readdirSync(DOCS, { recursive: true }).filter((name) => name.endsWith(".md"))) {
  const found = readFileSync(DOCS + page, "utf8").matchAll(/^```jsx?\n(.*?)^```$/gms);
  [...found].forEach(([, source], index) => blocks.set(`${page} ${index + 1}`, source));
}
const unused = new Set(blocks.keys());
const opened = [];

/** Run a block in which these names are defined; the result has the names that the block defines itself. */
async function run(name, given, ...defined) {
  assert.ok(blocks.has(name), `${name} does not exist`);
  unused.delete(name);
  const source = blocks.get(name).replaceAll("export ", "").replaceAll("import(module)", "Promise.resolve(module)");
  const body = `${source}\nreturn { ${defined.join(", ")} };`;
  const values = await new AsyncFunction(...Object.keys(given), body)(...Object.values(given));
  await settle();
  if (values.live) opened.push(values.live);
  return values;
}

const pageWith = (dataset) => ({ getElementById: () => ({ dataset }) });
const say = (kind, rest) => server().say({ fastws: kind, group: "room.7", ...rest });

beforeEach(freshPage);
after(() => opened.forEach((live) => live.close()));
after(() => assert.deepEqual([...unused], [], "nothing runs these blocks"));

test("the first client: messages, the position in the query, and a message to send", async () => {
  const [shown, location] = [[], { ...globalThis.location, reload() {} }];
  const document = Object.assign(globalThis.document, pageWith({ live: { Live }, socket: "/ws/chat/7" }));
  const given = { document, location, show: (message) => shown.push(message.text) };
  const { live } = await run("howto/live-client.md 1", given, "live");
  assert.equal(new URL(server().url).searchParams.get("after"), "0");
  server().open();
  server().say({ type: "said", number: 3, text: "hi" });
  assert.deepEqual(shown, ["hi"]);
  assert.equal(live.status, "online");
  server().end(1012);
  await clock.advance(5_000);
  assert.equal(new URL(server().url).searchParams.get("after"), "3");
});

test("React, Vue and Svelte open a client and close it", async () => {
  const cleanups = [];
  const useEffect = (effect) => cleanups.push(effect());
  const react = { Live, useEffect, useState: (value) => [value, (next) => seen.push(next)] };
  const seen = [];
  const { useLive } = await run("howto/live-client.md 2", react, "useLive");
  const said = [];
  useLive("/ws/react", { said: ({ text }) => said.push(text) });
  await settle();
  server().open();
  server().say({ type: "said", text: "hi" });
  assert.deepEqual([seen, said], [["online"], ["hi"]]);

  const onScopeDispose = (end) => cleanups.push(end);
  const vue = { Live, onScopeDispose, ref: (value) => ({ value }), readonly: (value) => value };
  const scope = (await run("howto/live-client.md 3", vue, "useLive")).useLive("/ws/vue");
  await settle();
  server().open();
  assert.equal(scope.status.value, "online");

  const states = [];
  const svelte = { Live, readable: (value, start) => cleanups.push(start((next) => states.push(next))) };
  (await run("howto/live-client.md 4", svelte, "liveStatus")).liveStatus("/ws/svelte");
  await settle();
  server().open();
  assert.deepEqual(states, ["online"]);

  cleanups.forEach((cleanup) => cleanup());
  assert.deepEqual(sockets.map(({ closed }) => closed?.code), [1000, 1000, 1000]);
});

test("a page recovers from the history, or reloads when messages are lost", async () => {
  const shown = [];
  let reloaded = 0;
  const dataset = { live: { Live }, socket: "/ws/room/7", position: "aaaa:4" };
  const document = Object.assign(globalThis.document, pageWith(dataset));
  const location = { ...globalThis.location, reload: () => reloaded++ };
  await run("howto/history.md 1", { document, location, show: (message) => shown.push(message) }, "live");
  assert.equal(new URL(server().url).searchParams.get("fastws"), "room.7:aaaa:4:-");
  server().open();
  server().say({ fastws: "hello", id: "s1", beat: 25 });
  say("joined", { epoch: "aaaa", offset: 4, recovered: true });
  say("message", { offset: 5, data: { text: "hi" } });
  assert.deepEqual([shown, reloaded], [[{ text: "hi" }], 0]);
  say("lost", { epoch: "bbbb", offset: 9 });
  assert.equal(reloaded, 1);
});

test("what is lost is loaded again", async () => {
  const [live, shown] = [await client("/ws"), []];
  const fetch = async (url) => ({ json: async () => ({ messages: [url], position: "bbbb:9" }) });
  const given = { live, fetch, position: "aaaa:4", showAll: (messages) => shown.push(...messages) };
  await run("howto/history.md 2", given);
  server().open();
  server().say({ fastws: "hello", id: "s1", beat: 25 });
  say("joined", { epoch: "bbbb", offset: 9, recovered: false });
  await settle();
  assert.deepEqual(shown, ["/room/7/messages"]);
});

test("presence and state are drawn", async () => {
  const live = await client("/ws");
  const drawn = [];
  await run("howto/presence.md 1", { live, draw: (people, count) => drawn.push(people, count) });
  await run("howto/state.md 1", { live, paint: (state) => drawn.push(Object.fromEntries(state)) });
  server().open();
  server().say({ fastws: "hello", id: "s1", beat: 25 });
  say("presence", { version: "p.1", count: 1, all: { 1: "ann" } });
  server().say({ fastws: "joined", group: "board.7", epoch: "aaaa", offset: 3, recovered: null });
  server().say({ fastws: "state", group: "board.7", offset: 3, all: { card: "open" } });
  assert.deepEqual(drawn, [["ann"], 1, { card: "open" }]);
});

test("the browser's own WebSocket: the console, a token, close codes and full jitter", async () => {
  const printed = [];
  await run("start.md 1", { socket: null, console: { log: (text) => printed.push(text) } });
  server().open();
  assert.deepEqual(server().sent, ["hello"]);
  server().raw("ann says hello");
  assert.deepEqual(printed, ["ann says hello"]);

  await run("howto/tokens.md 1", { token: "abc" });
  assert.deepEqual(server().protocols, ["bearer", "abc"]);

  let reloaded = 0;
  const [socket, connects] = [{}, []];
  const given = { socket, connect: () => connects.push(clock.now), location: { reload: () => reloaded++ } };
  await run("reference/close-codes.md 1", given);
  for (const code of [4401, 4403, 1012]) socket.onclose({ code });
  await clock.advance(5_000);
  assert.deepEqual([reloaded, connects.length], [1, 1]);

  await run("scaling.md 1", {});
  const before = sockets.length;
  server().end();
  await clock.advance(1_000);
  assert.equal(sockets.length, before + 1);
});
