// A generated client in Node, against the zoo on a real server.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
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

/** A network between client and server, which can fail. */
class Network {
  #pairs = new Set();
  #server = net.createServer((client) => this.#join(client));
  silent = false;

  static async up() {
    const network = new Network();
    network.#server.listen(0, "127.0.0.1");
    await once(network.#server, "listening");
    return network;
  }

  get options() {
    return { ...options, base: `ws://127.0.0.1:${this.#server.address().port}`, backoff: () => 20 };
  }

  #join(client) {
    const server = net.connect(new URL(BASE).port, "127.0.0.1");
    for (const [from, to] of [[client, server], [server, client]]) {
      from.on("data", (data) => this.silent || to.write(data));
      from.on("error", () => {}).on("close", () => to.destroy());
    }
    this.#pairs.add(client);
  }

  cut() {
    for (const client of this.#pairs) client.destroy();
    this.#pairs.clear();
  }

  down() {
    this.#server.close();
    this.cut();
  }
}

const until = (room, wanted) => new Promise((resolve) => {
  const look = () => room.status === wanted && resolve(stop());
  const stop = room.onStatus(look);
  look();
});

test("over a lost connection: 100 messages are kept in order, and requests reject and are not repeated", async () => {
  const network = await Network.up();
  const commands = connect("/ws/commands", network.options);
  await commands.request({ type: "search", q: "x" });
  network.silent = true; // the server never sees the next one
  const lost = commands.request({ type: "search", q: "lost" });
  network.cut();
  await assert.rejects(lost, (error) => error instanceof CallError && error.status === 0);
  await until(commands, "waiting");
  const ids = [...Array(100).keys()];
  for (const id of ids) assert.equal(commands.send({ type: "search", q: "x", id }), "kept");
  assert.equal(commands.send({ type: "search", q: "x", id: 100 }), false);
  const found = [];
  const all = new Promise((resolve) => commands.on("found", ({ id }) => found.push(id) === 100 && resolve()));
  network.silent = false;
  await all;
  assert.deepEqual(found, ids);
  commands.close();
  network.down();
});

test("a heartbeat notices a connection that carries nothing any more", async () => {
  const network = await Network.up();
  const { now } = Date;
  const { setInterval } = globalThis;
  globalThis.setInterval = (look, ms) => setInterval(look, ms / 50); // it looks every 100 ms instead of 5 s
  const actions = connect("/ws/actions", network.options);
  globalThis.setInterval = setInterval;
  const looked = () => new Promise((resolve) => setTimeout(resolve, 500));
  try {
    await until(actions, "online");
    const done = new Promise((resolve) => actions.on("done", resolve));
    let shift = 26_000; // beyond the 25 seconds without a frame
    Date.now = () => now() + shift;
    await looked(); // the ping goes out, and is answered
    shift += 11_000;
    await looked();
    assert.equal(actions.status, "online");
    actions.send({ action: "do" });
    await done;
    network.silent = true;
    shift += 26_000;
    await looked();
    shift += 11_000;
    await until(actions, "waiting");
    network.silent = false;
    network.cut();
    await until(actions, "online");
  } finally {
    Date.now = now;
  }
  actions.close();
  network.down();
});
