// Groups, positions and posts, against a scripted server: the frames of the specification, in every order.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import {
  chance, client, clock, connected, freshPage, happens, reported, server, settle, sockets, storage, untilAttempt,
} from "./harness.mjs";

beforeEach(freshPage);

const claims = () => new URL(server().url).searchParams.get("fastws");
const say = (fastws, rest) => server().say({ fastws, group: "room.7", ...rest });
const message = (offset, rest = {}) => say("message", { offset, data: { n: offset }, ...rest });
const joined = (offset, recovered, epoch = "aaaa") => say("joined", { epoch, offset, recovered });

/** A client in a group; `log` has what the page was given. */
async function member(options = {}, more = {}) {
  const live = await client("/ws", more);
  const [room, log] = [live.group("room.7", options), []];
  room.on("message", (data, { offset }) => log.push(offset ?? data));
  room.on("lost", () => log.push("lost"));
  server().open();
  server().say({ fastws: "hello", id: "s1", beat: 25 });
  return { live, room, log };
}

async function reconnect(code = 1012) {
  server().end(code);
  await untilAttempt();
  return server();
}

// ---- Positions

test("messages are passed on in order, each once, and the position goes into the next URL", async () => {
  const { log } = await member();
  joined(4, null);
  for (const offset of [5, 6, 6, 5, 7]) message(offset);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:7");
  server().open();
  joined(7, true);
  for (const offset of [6, 7, 8]) message(offset);
  assert.deepEqual(log, [5, 6, 7, 8]);
});

test("the URL names the last connections, none of which gets its own messages", async () => {
  await member();
  joined(4, null);
  await reconnect();
  server().open(); // lost before it is greeted
  for (let number = 2; number < 10; number += 1) {
    await reconnect();
    server().open();
    server().say({ fastws: "hello", id: `s${number}`, beat: 25 });
  }
  await reconnect();
  assert.equal(claims(), "@s2,@s3,@s4,@s5,@s6,@s7,@s8,@s9,room.7:aaaa:4");
});

test("a position of the page is claimed by the first attempt", async () => {
  const live = await client("/ws?x=1", {});
  live.close();
  const other = await client("/ws?x=1");
  other.close();
  freshPage();
  const { Live } = await import(process.env.LIVE);
  const page = new Live("/ws?x=1");
  page.group("room.7", { position: "bbbb:17" });
  page.group("room.8", { position: "" });
  await settle();
  assert.equal(claims(), "room.7:bbbb:17:-");
  page.close();
});

test("the position moves before the handler runs, and a handler that throws harms nobody", async () => {
  const { live, room, log } = await member();
  joined(0, null);
  room.on("message", () => { throw new Error("mine"); });
  const seen = [];
  live.on("message", (data, about) => seen.push([data.n, about.group, about.offset]));
  message(1);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:1");
  assert.deepEqual([log, seen, reported], [[1], [[1, "room.7", 1]], ["mine"]]);
});

test("what is not kept has no offset and moves no position; what excludes this socket moves it", async () => {
  const { log } = await member();
  joined(3, null);
  say("message", { data: "live" });
  say("message", { offset: 4 });
  message(5);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:5");
  assert.deepEqual(log, ["live", 5]);
});

test("not recovered: lost, and from there on in order, in the old epoch and in a new one", async () => {
  for (const epoch of ["aaaa", "bbbb"]) {
    freshPage();
    const { log } = await member({ position: "aaaa:90" });
    joined(3, false, epoch);
    message(4);
    assert.deepEqual(log, ["lost", 4]);
  }
});

test("lost in the middle: told once, and it goes on after it", async () => {
  const { log } = await member();
  joined(3, null);
  message(4);
  say("lost", { epoch: "bbbb", offset: 1 });
  message(2);
  assert.deepEqual(log, [4, "lost", 2]);
});

test("while the store is away there is no position, and the next return cannot claim to have missed nothing", async () => {
  const { log } = await member({ position: "aaaa:3" });
  joined(0, false, null);
  say("message", { data: "live" });
  await reconnect();
  assert.equal(claims(), "@s1");
  server().open();
  joined(9, null);
  message(10);
  assert.deepEqual(log, ["lost", "live", "lost", 10]);
});

test("a group without a history never loses anything", async () => {
  const { log } = await member();
  for (let n = 0; n < 2; n++) {
    joined(0, null, null);
    say("message", { data: "live" });
    await reconnect();
    server().open();
  }
  assert.deepEqual(log, ["live", "live"]);
});

test("groups that the page did not name are recovered as well, the most recent first, in at most 4 KB", async () => {
  const live = await connected();
  for (let n = 0; n < 100; n++) {
    const group = `${"x".repeat(60)}.${n}`;
    server().say({ fastws: "joined", group, epoch: "aaaa", offset: n, recovered: null });
  }
  await reconnect();
  const all = claims().split(",");
  assert.ok(claims().length <= 4096 && all.length > 40);
  assert.ok(all[0].endsWith(".99:aaaa:99") && all[1].endsWith(".98:aaaa:98"));
  assert.equal(live.group(`${"x".repeat(60)}.5`).count, 0);
});

test("bytes of a group come without their envelope", async () => {
  const { room } = await member();
  const got = [];
  room.on("message", (data, { offset }) => got.push([offset, ...new Uint8Array(data)]));
  joined(0, null);
  const head = new TextEncoder().encode(JSON.stringify({ fastws: "message", group: "room.7", offset: 1, key: "x".repeat(300) }));
  server().raw(new Uint8Array([head.length >> 8, head.length & 255, ...head, 9, 8]).buffer);
  assert.deepEqual(got, [[1, 9, 8]]);
});

test("group messages are dispatched by their tag", async () => {
  const { live } = await member();
  const said = [];
  live.on("said", (data, { group }) => said.push([data.text, group]));
  joined(0, null);
  message(1, { data: { type: "said", text: "hi" } });
  assert.deepEqual(said, [["hi", "room.7"]]);
});

// ---- load

function loader() {
  const calls = [];
  const load = () => new Promise((resolve, reject) => calls.push({ resolve, reject }));
  return { calls, load };
}

test("load without a position: messages wait, and those after the loaded position follow", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(3, null);
  for (const offset of [4, 5, 6]) message(offset);
  say("message", { data: "live" });
  assert.deepEqual([calls.length, log], [1, []]);
  calls[0].resolve("aaaa:5");
  await settle();
  message(7);
  assert.deepEqual(log, [6, "live", 7]);
});

test("what load fetched is not passed on when it arrives later", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(3, null);
  calls[0].resolve("aaaa:5");
  await settle();
  for (const offset of [4, 5, 6]) message(offset);
  assert.deepEqual(log, [6]);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:6");
});

test("a page with a position that is recovered loads nothing", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load, position: "aaaa:3" });
  joined(3, true);
  message(4);
  assert.deepEqual([calls.length, log], [0, [4]]);
});

test("load after lost, and again with back-off if the epoch changed meanwhile", async () => {
  chance(() => 0.5);
  const { calls, load } = loader();
  const { log } = await member({ load, position: "aaaa:3" });
  joined(3, true);
  say("lost", { epoch: "bbbb", offset: 2 });
  message(3);
  say("lost", { epoch: "cccc", offset: 8 });
  message(9);
  calls[0].resolve("bbbb:2");
  await clock.advance(499);
  assert.equal(calls.length, 1);
  await clock.advance(1);
  message(10);
  calls[1].resolve("cccc:9");
  await settle();
  assert.deepEqual([calls.length, log], [2, [10]]);
});

test("messages of an epoch that is over are not passed on after the load", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(50, null);
  message(51);
  say("lost", { epoch: "bbbb", offset: 2 });
  calls[0].resolve("aaaa:50");
  await clock.advance(500);
  message(3);
  calls[1].resolve("bbbb:2");
  await settle();
  assert.deepEqual(log, [3]);
});

test("a load that fails is reported and made again; the wait grows", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(3, null);
  message(4);
  for (const wait of [500, 1000, 2000]) {
    calls.at(-1).reject(new Error("503"));
    const before = calls.length;
    await clock.advance(wait - 1);
    assert.equal(calls.length, before);
    await clock.advance(1);
    assert.equal(calls.length, before + 1);
  }
  calls.at(-1).resolve("aaaa:3");
  await settle();
  assert.deepEqual([log, reported], [[4], ["503", "503", "503"]]);
});

test("more than a thousand waiting messages: loaded again", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(0, null);
  for (let offset = 1; offset <= 1001; offset++) message(offset);
  message(1002);
  calls[0].resolve("aaaa:0");
  await clock.advance(1000);
  assert.equal(calls.length, 2);
  calls[1].resolve("aaaa:1001");
  await settle();
  assert.deepEqual(log, [1002]);
});

test("a connection that is lost while loading does not disturb it", async () => {
  const { calls, load } = loader();
  const { log } = await member({ load });
  joined(0, null);
  message(1);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:1");
  server().open();
  joined(1, true);
  message(2);
  calls[0].resolve("aaaa:0");
  await settle();
  assert.deepEqual([calls.length, log], [1, [1, 2]]);
});

test("the end of the client ends loading; after retry() it is loaded anew", async () => {
  const { calls, load } = loader();
  const { live, log } = await member({ load });
  joined(0, null);
  message(1);
  server().end(4401);
  calls[0].reject(new Error("401"));
  await clock.advance(60_000);
  assert.deepEqual([calls.length, clock.timers.size], [1, 0]);
  live.retry();
  await settle();
  server().open();
  joined(5, null);
  calls[1].resolve("aaaa:5");
  await settle();
  message(6);
  assert.deepEqual(log, [6]);
});

// ---- State

test("last values: a snapshot, changes, and nothing twice", async () => {
  const { room } = await member();
  const seen = [];
  room.on("state", () => seen.push(Object.fromEntries(room.state)));
  joined(3, null);
  say("state", { offset: 3, all: { a: 1, __proto__x: 2 } });
  say("state", { offset: 4, set: { b: { deep: true } }, del: ["a"] });
  say("state", { offset: 4, set: { b: 0 } });
  assert.deepEqual(seen, [{ a: 1, __proto__x: 2 }, { __proto__x: 2, b: { deep: true } }]);
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:4");
  server().open();
  joined(4, true);
  say("state", { offset: 5, set: { b: 1 } });
  assert.deepEqual([...room.state], [["__proto__x", 2], ["b", 1]]);
});

test("a position is claimed once its values have come: a recovery would not contain them", async () => {
  const { room } = await member();
  const lost = [];
  room.on("lost", () => lost.push(claims()));
  const fields = { group: "room.7", epoch: "aaaa", offset: 3 };
  server().say({ fastws: "joined", ...fields, recovered: null, state: true });
  await reconnect();
  assert.equal(claims(), "@s1");
  server().open();
  server().say({ fastws: "joined", ...fields, recovered: null, state: true });
  say("state", { offset: 3, all: { a: 1 } });
  assert.equal(lost.length, 1);
  await reconnect();
  assert.equal(claims().split(",").at(-1), "room.7:aaaa:3");
  server().open();
  joined(3, true);
  server().say({ fastws: "lost", ...fields, epoch: "bbbb", state: true });
  say("state", { offset: 4, set: { a: 2 } });
  await reconnect();
  assert.equal(claims().includes("room.7"), false);
});

test("a page whose position is recovered gets its values, and claims the position once they have come", async () => {
  const { room } = await member({ position: "aaaa:3" });
  const fields = { fastws: "joined", group: "room.7", epoch: "aaaa", offset: 3, recovered: true };
  server().say({ ...fields, state: true });
  await reconnect();
  assert.equal(claims().includes("room.7"), false);
  server().open();
  server().say({ ...fields, recovered: null, state: true });
  say("state", { offset: 3, all: { a: 1 } });
  assert.deepEqual([...room.state], [["a", 1]]);
  await reconnect();
  assert.equal(claims().split(",").at(-1), "room.7:aaaa:3");
});

test("a position is that of the page until the group has been joined, however often it connects", async () => {
  const { live, room } = await member({ position: "aaaa:3" });
  live.group("room.8", { position: "aaaa:5" });
  await reconnect(); // before it has joined
  assert.equal(claims(), "@s1,room.8:aaaa:5:-,room.7:aaaa:3:-");
  server().open();
  server().say({ fastws: "hello", id: "s2", beat: 25 });
  joined(3, true); // only one of the groups
  say("presence", { version: "v1", count: 0, all: {} });
  await reconnect();
  assert.equal(claims(), "@s1,@s2,room.7:aaaa:3:v1,room.8:aaaa:5:-");
  server().open();
  server().say({ fastws: "joined", group: "room.8", epoch: "aaaa", offset: 5, recovered: true, state: true });
  server().say({ fastws: "state", group: "room.8", offset: 5, all: { a: 1 } });
  await reconnect();
  assert.equal(claims(), "@s1,@s2,room.8:aaaa:5,room.7:aaaa:3:v1");
  assert.deepEqual([[...live.group("room.8").state], [...room.state]], [[["a", 1]], []]);
});

test("values and messages are one order, and load does not hold values back", async () => {
  const { calls, load } = loader();
  const { room, log } = await member({ load });
  joined(3, null);
  say("state", { offset: 3, all: {} });
  message(4);
  say("state", { offset: 5, set: { a: 1 } });
  assert.deepEqual([...room.state], [["a", 1]]);
  calls[0].resolve("aaaa:5");
  await settle();
  say("state", { offset: 6, set: { a: 2 } });
  message(7);
  assert.deepEqual([[...room.state], log], [[["a", 2]], [7]]);
});

// ---- Presence

test("presence: a list, changes, and a list again without false arrivals", async () => {
  const { room } = await member();
  const seen = [];
  room.on("presence", ({ joined, left, changed }) => seen.push([[...joined.keys()], left, [...changed.keys()], room.count]));
  say("joined", { epoch: null, offset: 0, recovered: null });
  say("presence", { version: "p.1", count: 2, all: { 1: "ann", 2: "bob" } });
  say("presence", { version: "p.2", count: 2, joined: { 3: "eve" }, left: ["1"], changed: { 2: "rob" } });
  assert.deepEqual([...room.people], [["2", "rob"], ["3", "eve"]]);
  await reconnect();
  assert.equal(claims(), "@s1,room.7::0:p.2");
  server().open();
  say("presence", { version: "p.9", count: 2, all: { 3: "eve", 4: "__proto__" } });
  assert.deepEqual(seen, [[["1", "2"], [], [], 2], [["3"], ["1"], ["2"], 2], [["4"], ["2"], ["3"], 2]]);
});

test("presence: too many are counted, and named again below the limit", async () => {
  const { room } = await member();
  say("presence", { version: "1", count: 1, all: { a: 1 } });
  say("presence", { version: "2", count: 5000 });
  assert.deepEqual([room.people.size, room.count], [0, 5000]);
  say("presence", { version: "3", count: 1, all: { b: 1 } });
  assert.deepEqual([[...room.people.keys()], room.count], [["b"], 1]);
  say("presence", { version: "4", count: 0, left: ["b"] });
  assert.deepEqual([room.people.size, room.count], [0, 0]);
});

test("names of objects are ordinary keys", async () => {
  const { room } = await member();
  server().raw('{"fastws":"presence","group":"room.7","version":"1","count":2,"all":{"__proto__":{"x":1},"constructor":2}}');
  assert.deepEqual([...room.people.keys()], ["__proto__", "constructor"]);
  say("presence", { version: "2", count: 1, all: { constructor: 2 } });
  assert.deepEqual([...room.people.keys()], ["constructor"]);
});

test("a group that the socket left is joined anew", async () => {
  const { log } = await member();
  joined(3, null);
  say("left", {});
  await reconnect();
  assert.equal(claims(), "@s1");
  server().open();
  joined(7, null);
  message(8);
  assert.deepEqual(log, ["lost", 8]);
});

// ---- Posts

const sent = () => server().sent.map((text) => JSON.parse(text).key);

test("a post is sent on every connection until a message has its key", async () => {
  const { live } = await member();
  joined(0, null);
  assert.equal(live.post("k1", { text: "hi" }), true);
  assert.deepEqual(server().sent, ['{"key":"k1","text":"hi"}']);
  await reconnect();
  live.post("k2", {});
  server().open();
  assert.deepEqual(sent(), ["k1", "k2"]);
  joined(0, true);
  message(1, { key: "k1" });
  live.settle("k2");
  await reconnect();
  server().open();
  assert.deepEqual(sent(), []);
});

test("a post with the same key takes the place of the former, and is sent at once", async () => {
  const live = await connected();
  live.post("k1", { text: "one" });
  live.post("k1", { text: "two" });
  assert.deepEqual(server().sent.map((text) => JSON.parse(text).text), ["one", "two"]);
  await reconnect();
  server().open();
  assert.deepEqual(server().sent.map((text) => JSON.parse(text).text), ["two"]);
});

test("a post that this socket is excluded from, or knows already, is confirmed too", async () => {
  const { live, log } = await member();
  joined(5, null);
  live.post("k1", {});
  live.post("k2", {});
  live.post("k3", {});
  say("message", { offset: 6, key: "k1" });
  message(5, { key: "k2" });
  say("message", { key: "k3" }); // sent before, and no longer kept
  await reconnect();
  assert.equal(claims(), "@s1,room.7:aaaa:6");
  server().open();
  assert.deepEqual(sent(), []);
  assert.deepEqual(log, []);
});

test("posts go out in order, ten at once and then ten a second", async () => {
  const live = await client();
  const keys = Array.from({ length: 25 }, (_, n) => `k${n}`);
  for (const key of keys) live.post(key, {});
  server().open();
  assert.equal(sent().length, 10);
  live.post("late", {});
  await clock.advance(999);
  assert.equal(sent().length, 10);
  await clock.advance(1);
  assert.equal(sent().length, 20);
  await clock.advance(1000);
  assert.deepEqual(sent(), [...keys, "late"]);
  await clock.advance(5000);
  live.post("one", {});
  assert.equal(sent().at(-1), "one");
});

test("a lost connection in the middle of many posts: all of them again, in order", async () => {
  const live = await connected();
  for (let n = 0; n < 15; n++) live.post(`k${n}`, {});
  assert.equal(sent().length, 10);
  await reconnect();
  server().open();
  await clock.advance(3000);
  assert.deepEqual(sent(), Array.from({ length: 15 }, (_, n) => `k${n}`));
});

test("at most 100 posts and 256 KB", async () => {
  const live = await client();
  assert.equal(live.post("big", { text: "x".repeat(256 * 1024) }), false);
  for (let n = 0; n < 100; n++) assert.equal(live.post(`k${n}`, {}), true);
  assert.equal(live.post("k100", {}), false);
  assert.equal(live.post("k5", { text: "another" }), true);
  live.settle("k0");
  assert.equal(live.post("k100", {}), true);
});

test("posts with a store survive a reload, not the end of the login", async () => {
  const before = await client("/ws", { store: "room" });
  before.post("k1", { text: "hi" });
  before.close();
  assert.equal(before.post("k2", {}), false);
  const live = await client("/ws", { store: "room" });
  server().open();
  assert.deepEqual(sent(), ["k1"]);
  server().end(4401);
  assert.equal(live.status, "refused");
  assert.deepEqual([...storage], [["fastws:room", "[]"]]);
});

test("without storage, posts are kept in memory", async () => {
  Object.defineProperty(globalThis, "sessionStorage", { get() { throw new Error("denied"); }, configurable: true });
  const live = await connected("/ws", { store: "room" });
  assert.equal(live.post("k1", {}), true);
  assert.deepEqual(sent(), ["k1"]);
  assert.ok(reported.every((text) => text === "denied"));
});

test("keys are long, and differ", async () => {
  const live = await client();
  const keys = new Set(Array.from({ length: 1000 }, () => live.key()));
  assert.equal(keys.size, 1000);
  assert.ok([...keys].every((key) => key.length > 20 && key.length <= 64));
});

// ---- Everything together

test("whatever the network does, offsets rise and nothing comes twice", async () => {
  let state = 7;
  const random = () => (state = (state * 1664525 + 1013904223) % 2 ** 32) / 2 ** 32;
  for (let run = 0; run < 20; run++) {
    freshPage();
    chance(random);
    const { live, log } = await member();
    let top = Math.floor(random() * 10);
    joined(top, null);
    const first = top + 1;
    for (let step = 0; step < 60; step++) {
      if (random() < 0.8) message(++top);
      else {
        if (random() < 0.5) top += 3; // sent, and lost with the connection
        await reconnect(1006);
        const had = Number(claims().split(":").at(-1));
        server().open();
        joined(had, true);
        for (let offset = Math.max(1, had - 2); offset <= top; offset++) message(offset);
      }
    }
    assert.deepEqual(log, Array.from({ length: log.length }, (_, n) => first + n));
    assert.equal(log.at(-1), top);
    live.close();
  }
});
