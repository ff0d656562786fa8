// A generated client in Node, against the zoo on a real daphne.
import assert from "node:assert/strict";
import { test } from "node:test";

const { SOCKETS, WS, BASE } = process.env;
const { CallError, Live, connect } = await import(SOCKETS);
const { WebSocket } = await import(WS);
const options = { base: BASE, WebSocket };

test("a request gets its reply, and another one its error", async () => {
  const commands = connect("/ws/commands", options);
  assert.ok(commands.live instanceof Live);
  const found = await commands.request({ type: "search", q: "x" });
  assert.deepEqual(found, { id: found.id, type: "found", hits: [] });
  const failed = commands.request({ type: "search", q: "nothing" });
  await assert.rejects(failed, (error) => {
    assert.ok(error instanceof CallError);
    assert.deepEqual([error.status, error.detail], [404, "There is nothing."]);
    return true;
  });
  assert.equal(commands.status, "online");
  commands.close();
  assert.equal(commands.status, "closed");
});

test("what is sent before the opening is kept, and errors have their tag", async () => {
  const commands = connect("/ws/commands", options);
  const error = new Promise((resolve) => commands.on("error", resolve));
  assert.equal(commands.send({ type: "nonsense" }), "kept");
  assert.equal((await error).status, 422);
  commands.close();
});

test("path parameters, query parameters and a stream", async () => {
  const query = { tag: ["x", "y"], limit: 3 };
  const prices = connect("/ws/prices/{symbol}", { ...options, params: { symbol: "a" }, query });
  const seen = [];
  for await (const price of prices) seen.push(price);
  assert.deepEqual(seen, [{ symbol: "a", price: "1" }]);
});
