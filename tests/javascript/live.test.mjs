import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import {
  CallError, Live, answers, asked, chance, client, clock, connected, freshPage, happens, page, reported, server,
  settle, show, sockets, untilAttempt,
} from "./harness.mjs";

const ALMOST_ONE = 1 - 1e-9;

beforeEach(freshPage);

/** A generator of numbers in [0, 1) that gives the same ones in every run. */
function seeded(state = 42) {
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

// ---- Where it connects to

test("the URL is relative to the page, and ws for http", async () => {
  await client("/ws/room?x=1#part");
  assert.equal(server().url, "wss://example.com/ws/room?x=1&fastws=");
});

test("only the scheme changes to ws, not a path with http in it", async () => {
  await client("wss://example.com/http/room");
  assert.equal(server().url, "wss://example.com/http/room?fastws=");
});

test("URL, query and protocols are asked for each attempt, and may be promises", async () => {
  let [token, last] = [0, 3];
  await client(async () => `wss://host-${++token}/ws?after=0`, {
    query: () => ({ after: last, tag: ["a", "b"], none: null, missing: undefined }),
    protocols: async () => [`token-${token}`],
  });
  assert.equal(server().url, "wss://host-1/ws?after=3&tag=a&tag=b&fastws=");
  assert.deepEqual(server().protocols, ["token-1"]);
  last = 9;
  server().end();
  await untilAttempt();
  assert.equal(server().url, "wss://host-2/ws?after=9&tag=a&tag=b&fastws=");
  assert.deepEqual(server().protocols, ["token-2"]);
});

test("an attempt whose URL cannot be made has failed, and the next one is made", async () => {
  let calls = 0;
  const live = await client(async () => {
    if (++calls < 3) throw new Error("no token");
    return "/ws";
  });
  assert.equal(live.status, "waiting");
  await clock.advance(5000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(reported, ["no token", "no token"]);
});

test("a URL that arrives after close() opens nothing", async () => {
  let give;
  const live = await client(() => new Promise((resolve) => (give = resolve)));
  live.close();
  give("/ws");
  await clock.advance(100_000);
  assert.equal(sockets.length, 0);
});

// ---- When it connects again

test("the wait before attempt n is random in [0, min(30 s, 1 s * 2^n)]", async () => {
  for (const [number, factor] of [[0, 0], [ALMOST_ONE, 1]]) {
    freshPage();
    chance(() => number);
    await client();
    for (const most of [1, 2, 4, 8, 16, 30, 30, 30]) {
      server().end();
      const waited = await untilAttempt();
      assert.ok(Math.abs(waited - factor * most * 1000) < 1, `${waited} of ${most} s`);
    }
  }
});

test("a thousand clients that lost their server return evenly over the window", async () => {
  const next = seeded();
  const waits = [];
  for (let n = 0; n < 1000; n++) {
    freshPage();
    chance(next);
    const live = await client();
    server().open().end(1012, "spread=5");
    waits.push(await untilAttempt());
    live.close();
  }
  const tenths = Array(10).fill(0);
  for (const wait of waits) tenths[Math.floor(wait / 500)] += 1;
  assert.ok(tenths.every((count) => count > 60 && count < 140), `${tenths}`);
});

test("after 1012 and 1013 the window is what the server told, else two seconds", async () => {
  chance(() => ALMOST_ONE);
  for (const [code, reason, seconds] of [[1012, "spread=5", 5], [1013, "spread=0.5", 0.5], [1012, "", 2], [1013, "x", 2]]) {
    const live = await connected();
    await clock.advance(11_000);
    server().end(code, reason);
    assert.equal(Math.round(await untilAttempt()), seconds * 1000);
    server().end();
    assert.equal(Math.round(await untilAttempt()), 2000); // 2^1 s: the restart counts as the first attempt
    live.close();
  }
});

test("a client that is closed as too slow over and over returns later each time", async () => {
  chance(() => ALMOST_ONE);
  await connected();
  const waits = [];
  for (let n = 0; n < 6; n++) {
    server().end(1013);
    waits.push(Math.round((await untilAttempt()) / 1000));
    server().open();
  }
  assert.deepEqual(waits, [2, 2, 4, 8, 16, 30]);
});

test("the back-off begins anew after ten seconds online, not earlier", async () => {
  chance(() => ALMOST_ONE);
  await client();
  for (let n = 0; n < 4; n++) {
    server().end();
    await untilAttempt();
  }
  server().open();
  await clock.advance(9_000);
  server().end();
  assert.equal(Math.round(await untilAttempt()), 16_000);
  server().open();
  await clock.advance(10_000);
  server().end();
  assert.equal(Math.round(await untilAttempt()), 1000);
});

for (const name of ["online", "pageshow", "visible"]) {
  test(`${name}: an attempt within 300 ms`, async () => {
    chance(() => ALMOST_ONE);
    await client();
    for (let n = 0; n < 6; n++) {
      server().end();
      if (n < 5) await untilAttempt();
    }
    name === "visible" ? show("visible") : happens(name);
    assert.ok((await untilAttempt()) <= 300);
  });
}

test("an attempt that was made early takes the place of the one that was due", async () => {
  chance(() => ALMOST_ONE);
  await client();
  for (let n = 0; n < 6; n++) {
    server().end();
    if (n < 5) await untilAttempt();
  }
  await clock.advance(10_000);
  happens("online");
  await clock.advance(300);
  server().end();
  assert.equal(Math.round(await untilAttempt()), 30_000);
});

test("a page that is hidden waits at least 30 s, and not exactly as long as all others", async () => {
  await connected();
  show("hidden");
  const waits = [];
  for (const number of [0, 0.5]) {
    chance(() => number);
    server().end(1012);
    waits.push(await untilAttempt());
    server().open();
  }
  assert.equal(waits[0], 30_000);
  assert.equal(waits[1], 31_000);
  server().end();
  show("visible");
  assert.ok((await untilAttempt()) <= 300);
});

test("without a network it says so, leaves the socket, and comes back with the network", async () => {
  const live = await connected();
  page.navigator.onLine = false;
  happens("offline");
  assert.deepEqual(live.seen, ["online", ["offline", 1006]]);
  assert.ok(server().closed);
  page.navigator.onLine = true;
  happens("online");
  assert.ok((await untilAttempt()) <= 300);
  server().open();
  assert.equal(live.status, "online");
});

test("the network may go while it waits", async () => {
  const live = await client();
  server().end();
  happens("offline");
  assert.equal(live.status, "offline");
});

test("navigator.onLine may be wrong: attempts go on", async () => {
  page.navigator.onLine = false;
  const live = await client();
  server().end();
  assert.equal(live.status, "offline");
  assert.notEqual(await untilAttempt(), Infinity);
  server().open();
  assert.equal(live.status, "online");
});

test("the back/forward cache takes a page without a socket, and gives it one again", async () => {
  const live = await connected();
  happens("pagehide");
  assert.ok(server().closed);
  assert.equal(live.status, "waiting");
  await clock.advance(600_000);
  assert.equal(sockets.length, 1);
  happens("pageshow");
  assert.ok((await untilAttempt()) <= 300);
});

test("a handshake that stalls is given up", async () => {
  const live = await client();
  clock.sleep(60_000);
  await clock.advance(5_000);
  assert.ok(sockets[0].closed);
  assert.deepEqual(live.seen[0], ["waiting", 1006]);
});

test("what an abandoned socket still says is ignored", async () => {
  const live = await connected();
  const [old, heard] = [server(), []];
  live.on("message", (data) => heard.push(data));
  live.retry();
  await settle();
  server().open();
  old.say({ type: "late" });
  old.end(4401);
  assert.deepEqual(heard, []);
  assert.equal(live.status, "online");
});

// ---- When it stops

for (const code of [1000, 1003, 1007, 1008, 1009, 4401, 4403, 4404, 4422]) {
  test(`${code} is final`, async () => {
    const live = await connected();
    server().end(code);
    assert.equal(live.status, code === 4401 || code === 4403 ? "refused" : "closed");
    assert.deepEqual(live.seen.at(-1), [live.status, code]);
    for (const name of ["online", "pageshow", "focus"]) happens(name);
    assert.equal(await untilAttempt(), Infinity);
    assert.equal(live.send("x"), false);
    assert.equal(clock.timers.size, 0);
    assert.deepEqual(asked, []);
  });
}

for (const code of [1001, 1006, 1011, 1012, 1013, 4408, 4429, 4500]) {
  test(`${code} is not final`, async () => {
    await connected();
    server().end(code);
    assert.notEqual(await untilAttempt(), Infinity);
  });
}

for (const [name, answer] of Object.entries({
  "a redirect to the login": { type: "opaqueredirect", status: 0 },
  "401": { status: 401 },
  "403": { status: 403 },
  "404": { status: 404 },
})) {
  test(`three refused handshakes and ${name} for the page: refused`, async () => {
    answers.push(answer);
    const live = await client();
    for (let n = 0; n < 3; n++) {
      assert.equal(asked.length, 0);
      server().end();
      if (n < 2) await untilAttempt();
    }
    await settle();
    assert.equal(live.status, "refused");
    assert.deepEqual(asked, [["https://example.com/rooms/lobby/?tab=1#top", "HEAD", "manual", "no-store"]]);
    assert.equal(await untilAttempt(), Infinity);
    assert.equal(sockets.length, 3);
  });
}

for (const [name, answer] of Object.entries({
  "200": { status: 200 },
  "405": { status: 405 },
  "500": { status: 500 },
  "503": { status: 503 },
  "no answer": new TypeError("Failed to fetch"),
})) {
  test(`three refused handshakes and ${name} for the page: it goes on`, async () => {
    answers.push(answer);
    const live = await client();
    for (let n = 1; n <= 7; n++) {
      server().end();
      assert.notEqual(await untilAttempt(), Infinity);
      assert.equal(asked.length, Math.floor(n / 3));
    }
    server().open();
    assert.equal(live.status, "online");
  });
}

for (const [name, act, status] of [
  ["close()", (live) => live.close(), "closed"],
  ["retry()", (live) => live.retry(), "online"],
  ["the network's return", () => happens("online"), "online"],
]) {
  test(`${name} while the page is asked for has the last word`, async () => {
    let give;
    answers.push(new Promise((resolve) => (give = resolve)));
    const live = await client();
    for (let n = 0; n < 3; n++) {
      server().end();
      if (n < 2) await untilAttempt();
    }
    act(live);
    await clock.advance(300);
    if (status === "online") server().open();
    give({ status: 404 });
    await clock.advance(60_000);
    assert.equal(live.status, status);
    assert.equal(sockets.length, status === "online" ? 4 : 3);
  });
}

test("attempts that opened are not counted among the refused ones", async () => {
  const live = await client();
  for (let n = 0; n < 9; n++) {
    if (n % 2) server().open();
    server().end();
    await untilAttempt();
  }
  assert.deepEqual(asked, []);
  assert.equal(live.status, "connecting");
});

test("the page to ask about can be named", async () => {
  answers.push({ status: 404 });
  await client("/ws", { page: "/rooms/" });
  for (let n = 0; n < 3; n++) {
    server().end();
    if (n < 2) await untilAttempt();
  }
  assert.equal(asked[0][0], "/rooms/");
});

test("backoff overrides the delay, the final codes and the question about the page", async () => {
  const calls = [];
  const live = await client("/ws", { backoff: (attempt, { code }) => { calls.push([attempt, code]); return 70; } });
  for (const code of [4401, 1006, 1006, 1006, 1000]) {
    server().end(code);
    assert.equal(await untilAttempt(), 70);
  }
  assert.deepEqual(calls, [[0, 4401], [1, 1006], [2, 1006], [3, 1006], [4, 1000]]);
  assert.deepEqual(asked, []);
  assert.equal(live.status, "connecting");
});

test("null from backoff ends it; undefined and errors leave it to the client", async () => {
  const ended = await client("/ws", { backoff: () => null });
  server().end(1006);
  assert.equal(ended.status, "closed");
  const refused = await client("/ws", { backoff: () => undefined });
  server().end(4403);
  assert.equal(refused.status, "refused");
  const failing = await client("/ws", { backoff: () => { throw new Error("mine"); } });
  server().end(1006);
  assert.equal(failing.status, "waiting");
  assert.deepEqual(reported, ["mine"]);
});

test("close() ends it and leaves nothing behind; retry() begins again", async () => {
  const live = await connected();
  live.close(4000, "bye");
  assert.deepEqual(server().closed, { code: 4000, reason: "bye" });
  assert.deepEqual(live.seen, ["online", "closed"]);
  assert.equal(clock.timers.size, 0);
  happens("online");
  assert.equal(await untilAttempt(), Infinity);
  live.retry();
  await settle();
  server().open();
  assert.equal(live.status, "online");
});

test("retry() in between connects at once and leaves nothing behind", async () => {
  const live = await connected();
  server().end();
  live.retry();
  await settle();
  assert.equal(sockets.length, 2);
  live.close();
  assert.equal(clock.timers.size, 0);
});

test("close() before the first attempt makes none", async () => {
  const live = new Live("/ws");
  live.close();
  await clock.advance(100_000);
  assert.equal(sockets.length, 0);
  assert.equal(live.status, "closed");
});

test("statuses of a whole life", async () => {
  const live = await client();
  assert.equal(live.status, "connecting");
  server().open();
  server().end(1012);
  await untilAttempt();
  server().open();
  server().end(4401);
  assert.deepEqual(live.seen, ["online", ["waiting", 1012], "connecting", "online", ["refused", 4401]]);
});

// ---- Signs of life

test("without hello and without heartbeat nothing is assumed", async () => {
  await connected();
  await clock.advance(3_600_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(server().sent, []);
});

test("a server that says hello is heard by its beats; the client sends nothing", async () => {
  const live = await connected("/ws", { heartbeat: true });
  server().say({ fastws: "hello", id: "a", beat: 25 });
  for (let n = 0; n < 5; n++) {
    await clock.advance(25_000);
    server().say({ fastws: "beat" });
  }
  assert.deepEqual(server().sent, []);
  await clock.advance(35_000);
  assert.equal(live.status, "online");
  await clock.advance(5_000);
  assert.equal(sockets[0].closed !== null, true);
  assert.notEqual(live.status, "online");
});

test("after sleep a socket that missed its beats is left at once, whatever it says of itself", async () => {
  const live = await connected();
  server().say({ fastws: "hello", id: "a", beat: 25 });
  clock.sleep(3_600_000);
  happens("focus");
  assert.equal(live.status, "waiting");
  assert.equal(sockets[0].readyState, 2);
});

test("a clock that is set back hides no dead connection, and one that runs on is no silence", async () => {
  const live = await connected();
  server().say({ fastws: "hello", id: "a", beat: 25 });
  clock.ahead = -3_600_000;
  await clock.advance(20_000);
  server().say({ fastws: "beat" });
  await clock.advance(35_000);
  assert.equal(live.status, "online");
  clock.ahead = -7_200_000;
  await clock.advance(5_000);
  server().say({ fastws: "beat" });
  clock.ahead = -10_800_000;
  await clock.advance(45_000);
  assert.notEqual(live.status, "online");
  assert.equal(sockets[0].readyState, 2);
});

test("a clock that is set back does not make the back-off forget that it was online", async () => {
  await connected();
  chance(() => 1);
  server().end();
  assert.equal(await untilAttempt(), 1_000);
  server().open();
  clock.ahead = -3_600_000;
  await clock.advance(15_000);
  server().end();
  assert.equal(await untilAttempt(), 1_000);
});

test("a route with a heartbeat is pinged after 25 s of silence and left 10 s later", async () => {
  const live = await connected("/ws", { heartbeat: true, tag: "action" });
  await clock.advance(24_000);
  assert.deepEqual(server().sent, []);
  await clock.advance(1_000);
  assert.deepEqual(server().sent, ['{"action":"ping"}']);
  await clock.advance(9_000);
  assert.equal(live.status, "online");
  await clock.advance(6_000);
  assert.notEqual(live.status, "online");
});

test("any frame answers a ping; pong itself does not reach the page", async () => {
  const live = await connected("/ws", { heartbeat: true });
  const heard = [];
  live.on("message", (data) => heard.push(data.type));
  for (const type of ["pong", "news", "pong"]) {
    await clock.advance(30_000);
    server().say({ type });
  }
  await clock.advance(20_000);
  assert.equal(live.status, "online");
  assert.equal(server().sent.length, 3);
  assert.deepEqual(heard, ["news"]);
});

test("nor does a pong on a route of text", async () => {
  const [live, heard] = [await connected("/ws", { heartbeat: true, tag: "action", text: true }), []];
  live.on("message", (data) => heard.push(data));
  for (const text of ['{"action":"pong"}', "pong", '{"action":"news"}', "null"]) server().raw(text);
  server().raw(new ArrayBuffer(1));
  assert.deepEqual(heard.slice(0, 3), ["pong", '{"action":"news"}', "null"]);
  assert.equal(heard.length, 4);
});

// ---- Messages

test("messages are dispatched by their tag, and all of them as messages", async () => {
  const [live, heard] = [await connected(), []];
  const stop = live.on("said", (data) => heard.push(["said", data.text]));
  live.on("message", (data) => heard.push(["message", data.type]));
  server().say({ type: "said", text: "hi" });
  stop();
  server().say({ type: "said", text: "again" });
  server().say({ type: "status" });
  server().say({ type: "message" });
  assert.deepEqual(heard, [
    ["message", "said"], ["said", "hi"], ["message", "said"], ["message", "status"], ["message", "message"],
  ]);
  assert.deepEqual(live.seen, ["online"]);
});

test("text that is no JSON, and bytes, arrive as they are", async () => {
  const [live, heard] = [await connected(), []];
  live.on("message", (data) => heard.push(data));
  server().raw("plain");
  server().raw("7");
  const bytes = new Uint8Array([0, 3, 1, 2, 3]).buffer;
  for (const buffer of [bytes, new ArrayBuffer(0), new ArrayBuffer(1)]) server().raw(buffer);
  assert.deepEqual(heard.slice(0, 2), ["plain", 7]);
  assert.equal(heard[2], bytes);
  assert.equal(heard.length, 5);
});

test("a route of raw text keeps its text", async () => {
  const [live, heard] = [await connected("/ws", { text: true }), []];
  live.on("message", (data) => heard.push(data));
  server().raw("7");
  server().raw('{"fastws":"hello","id":"a","beat":25}');
  assert.deepEqual(heard, ["7"]);
});

test("the library's own frames do not reach the page, and what a group sends is unwrapped", async () => {
  const [live, heard] = [await connected(), []];
  live.on("message", (data, { group }) => heard.push([data, group]));
  live.on("said", (data, { group }) => heard.push(["tag", data.text, group]));
  for (const frame of ["hello", "joined", "lost", "presence", "state", "left", "beat", "new in a later version"]) {
    server().say({ fastws: frame });
  }
  server().raw('{"fastws":"message", broken');
  server().raw(' { "fastws" : "message", "group": "g", "data": {"type": "said", "text": "hi"}}');
  server().say({ fastws: "message", group: "g", text: "plain" });
  server().say({ fastws: "message", group: "g", data: null, offset: 3 });
  const head = new TextEncoder().encode('{"fastws":"message","group":"g","offset":4}');
  server().raw(new Uint8Array([0, head.length, ...head, 7, 8]).buffer);
  server().say({ fastws: "message", group: "g", offset: 5 }); // this socket was excluded
  server().say({ other: 1, fastws: "message" }); // the endpoint's own
  assert.deepEqual(heard.map(([data, ...rest]) => [data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data, ...rest]), [
    [{ type: "said", text: "hi" }, "g"], ["tag", "hi", "g"], ["plain", "g"], [null, "g"], [[7, 8], "g"],
    [{ other: 1, fastws: "message" }, undefined],
  ]);
});

test("a handler that throws is reported and harms nobody", async () => {
  const [live, heard] = [await connected(), []];
  live.on("said", () => { throw new Error("mine"); });
  live.on("said", (data) => heard.push(data.type));
  server().say({ type: "said" });
  assert.deepEqual([heard, reported], [["said"], ["mine"]]);
});

test("send: sent, or false; text and bytes as they are, the rest as JSON", async () => {
  const live = await client();
  assert.equal(live.send({ a: 1 }), false);
  server().open();
  const [bytes, blob] = [new Uint8Array([1]), new Blob(["file"])];
  for (const data of [{ a: 1 }, "text", bytes, bytes.buffer, blob, [1], null, 0]) assert.equal(live.send(data), "sent");
  assert.deepEqual(server().sent, ['{"a":1}', "text", bytes, bytes.buffer, blob, "[1]", "null", "0"]);
  server().readyState = 2; // closing: the browser would drop it in silence
  assert.equal(live.send("x"), false);
});

test("queue: kept in order up to its length, sent once, before anything newer", async () => {
  const live = await client("/ws", { queue: 2 });
  live.onStatus((status) => status === "online" && live.send("newer"));
  assert.deepEqual(["one", "two", "three"].map((text) => live.send(text)), ["kept", "kept", false]);
  server().end();
  await untilAttempt();
  server().open();
  assert.deepEqual(server().sent, ["one", "two", "newer"]);
  server().end();
  await untilAttempt();
  server().open();
  assert.deepEqual(server().sent, ["newer"]);
});

test("iteration gives every message and ends with the client", async () => {
  const [live, heard] = [await connected(), []];
  const done = (async () => {
    for await (const message of live) heard.push(message.n);
  })();
  await settle();
  server().say({ n: 1 });
  server().say({ n: 2 });
  await settle();
  server().end();
  await untilAttempt();
  server().open().say({ n: 3 });
  server().end(1000);
  await done;
  assert.deepEqual(heard, [1, 2, 3]);
});

test("leaving the loop removes its handlers", async () => {
  const live = await connected();
  const loop = (async () => {
    for await (const message of live) return message;
  })();
  await settle();
  server().say({ n: 1 });
  assert.deepEqual(await loop, { n: 1 });
  server().say({ n: 2 });
  assert.deepEqual(reported, []);
});

// ---- Requests

const sentId = () => JSON.parse(server().sent.at(-1)).id;

test("a reply is found by its id", async () => {
  const live = await connected();
  const [one, two] = [live.request({ type: "search", q: "x" }), live.request({ type: "search", q: "y" })];
  const [first, second] = server().sent.map((frame) => JSON.parse(frame));
  assert.deepEqual({ ...first, id: 0 }, { type: "search", q: "x", id: 0 });
  server().say({ type: "found", hits: 2, id: second.id });
  server().say({ type: "found", hits: 0, id: "of somebody else" });
  server().say({ type: "found", hits: 1, id: first.id });
  assert.deepEqual([(await one).hits, (await two).hits], [1, 2]);
  assert.deepEqual([...clock.timers.values()].map(({ repeat }) => repeat), [5000]);
});

test("an error frame with the id rejects with its status and detail", async () => {
  const live = await connected();
  const reply = live.request({ type: "search" });
  const detail = [{ type: "missing", loc: ["message", "search", "q"], msg: "Field required" }];
  server().say({ type: "error", status: 422, detail, id: sentId() });
  await assert.rejects(reply, (error) => error instanceof CallError && error.status === 422 && error.detail[0].type === "missing");
});

test("an error frame without an id belongs to no request", async () => {
  const live = await connected();
  const reply = live.request({ type: "search" });
  server().say({ type: "error", status: 400, detail: "Not JSON" });
  server().say({ type: "found", id: sentId() });
  assert.equal((await reply).type, "found");
});

test("a request ends after ten seconds, or when it says", async () => {
  const live = await connected();
  const [ten, one] = [live.request({}), live.request({}, { timeout: 1000 })];
  const ends = [];
  ten.catch((error) => ends.push([error.status, error.message]));
  one.catch((error) => ends.push("one"));
  await clock.advance(9_999);
  assert.deepEqual(ends, ["one"]);
  await clock.advance(1);
  assert.deepEqual(ends, ["one", [0, "no reply in time"]]);
});

test("a request may wait for ever", async () => {
  const live = await connected();
  let end;
  live.request({}, { timeout: Infinity }).then((reply) => (end = reply.type), (error) => (end = error.message));
  await clock.advance(3_600_000);
  assert.equal(end, undefined);
  server().say({ ...JSON.parse(server().sent[0]), type: "found" });
  await settle();
  assert.equal(end, "found");
});

test("a request is rejected when its connection is lost, and not repeated", async () => {
  const live = await connected("/ws", { queue: 10 });
  const reply = live.request({ type: "search" });
  server().end(1012);
  await assert.rejects(reply, { name: "CallError", status: 0, message: "connection lost" });
  await untilAttempt();
  server().open();
  assert.deepEqual(server().sent, []);
});

test("a request without a connection: rejected, or kept as the queue allows", async () => {
  const without = await client();
  await assert.rejects(without.request({}), { name: "CallError", message: "not connected" });
  const live = await client("/ws", { queue: 1 });
  const reply = live.request({ type: "search" });
  await assert.rejects(live.request({}), { message: "not connected" });
  server().end();
  await untilAttempt();
  server().open().say({ type: "found", id: sentId() });
  assert.equal((await reply).type, "found");
});

test("a request that nobody waits for any more is not sent", async () => {
  const live = await client("/ws", { queue: 1 });
  const reply = assert.rejects(live.request({ type: "search" }), { message: "no reply in time" });
  await clock.advance(10_000);
  await reply;
  server().open();
  assert.deepEqual(server().sent, []);
});

test("what ends the client rejects every request", async () => {
  const live = await client("/ws", { queue: 1 });
  const reply = assert.rejects(live.request({}), { name: "CallError" });
  live.close();
  await reply;
});
