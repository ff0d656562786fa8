// The client in Node, with the `ws` package, against the site on a real daphne.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { after, beforeEach, test } from "node:test";

const { LIVE, WS, PYTHON, ROOT } = process.env;
const { Live } = await import(LIVE);
const { WebSocket } = await import(WS);

/** One daphne; `port` stays the same when it is started again. */
class Server {
  port = 0;
  process = null;

  async start() {
    this.port ||= await freePort();
    const command = ["-m", "daphne", "--bind", "127.0.0.1", "--port", this.port, "tests.javascript.site:application"];
    this.process = spawn(PYTHON, command.map(String), { cwd: ROOT, stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    this.process.stderr.on("data", (text) => (log += text));
    while (!(await this.answers())) {
      if (this.process.exitCode !== null) throw new Error(`daphne did not come up:\n${log}`);
      await pause(100);
    }
  }

  answers() {
    return new Promise((resolve) => {
      const probe = net.connect(this.port, "127.0.0.1", () => resolve(!probe.destroy() || true));
      probe.on("error", () => resolve(false));
    });
  }

  async stop(signal = "SIGKILL") {
    const { process } = this;
    if (process.exitCode !== null || process.signalCode !== null) return;
    const exit = once(process, "exit");
    process.kill(signal);
    await exit;
  }
}

function freePort() {
  return new Promise((resolve) => {
    const probe = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const server = new Server();
const lives = [];
after(async () => {
  lives.forEach((live) => live.close());
  server.process?.kill("SIGCONT");
  await server.stop();
});
beforeEach(async () => {
  if (server.process === null || server.process.exitCode !== null || server.process.signalCode !== null) await server.start();
});

function connect(path, options = {}) {
  const live = new Live(() => `http://127.0.0.1:${server.port}${path}`, { WebSocket, ...options });
  live.log = [];
  live.onStatus((status, event) => live.log.push([status, event?.code]));
  lives.push(live);
  return live;
}

function until(live, wanted) {
  return new Promise((resolve) => {
    if (live.status === wanted) resolve();
    const stop = live.onStatus((status) => {
      if (status !== wanted) return;
      stop();
      resolve();
    });
  });
}

const heard = (live, tag) => new Promise((resolve) => { const stop = live.on(tag, (data) => resolve(data, stop())); });

test("it comes back after 1012, with a new query", async () => {
  let last = 3;
  const live = connect("/ws/echo", { query: async () => ({ after: last }) });
  assert.deepEqual(await heard(live, "welcome"), { type: "welcome", after: 3 });
  last = 8;
  live.send({ type: "close", code: 1012, reason: "spread=1" });
  assert.deepEqual(await heard(live, "welcome"), { type: "welcome", after: 8 });
  assert.deepEqual(live.log.map(([status]) => status), ["online", "waiting", "connecting", "online"]);
  assert.equal(live.log[1][1], 1012);
});

test("it comes back after the server is killed and started again, and sends in order what was kept", async () => {
  const live = connect("/ws/echo", { queue: 100 });
  await until(live, "online");
  await server.stop("SIGKILL");
  await until(live, "waiting");
  const messages = [];
  live.on("note", ({ n }) => messages.push(n));
  for (let n = 0; n < 20; n++) assert.equal(live.send({ type: "note", n }), "kept");
  await server.start();
  await until(live, "online");
  live.send({ type: "note", n: 20 });
  while (messages.at(-1) !== 20) await heard(live, "note");
  assert.deepEqual(messages, [...Array(21).keys()]);
});

test("it comes back after the server stops as on a deploy", async () => {
  const live = connect("/ws/echo");
  await until(live, "online");
  await server.stop("SIGTERM");
  await until(live, "waiting");
  assert.deepEqual(live.log[1], ["waiting", 1012]);
  await server.start();
  await until(live, "online");
});

for (const code of [4401, 1000]) {
  test(`${code} is final`, async () => {
    const live = connect("/ws/echo");
    await until(live, "online");
    live.send({ type: "close", code });
    await until(live, code === 4401 ? "refused" : "closed");
    await pause(3000); // longer than the first back-off can be
    assert.deepEqual(live.log.map(([status]) => status), ["online", code === 4401 ? "refused" : "closed"]);
  });
}

test("a refused handshake and a page behind the login: refused after three attempts", async () => {
  const live = connect("/ws/members", { page: `http://127.0.0.1:${server.port}/members/` });
  await until(live, "refused");
  assert.equal(live.log.filter(([status]) => status === "waiting").length, 3);
});

test("replies and errors find their requests; one on a lost connection rejects", async () => {
  const live = connect("/ws/echo", { queue: 1 });
  const reply = await live.request({ type: "search", q: "x" }); // kept until it is online
  assert.equal(reply.q, "x");
  await assert.rejects(live.request({ type: "fail" }), { name: "CallError", status: 409, detail: "Taken" });
  const lost = { name: "CallError", status: 0, message: "connection lost" };
  const held = assert.rejects(live.request({ type: "hold" }), lost);
  live.send({ type: "close", code: 1012 });
  await held;
});

test("bytes go out and come back as they are", async () => {
  const live = connect("/ws/bytes");
  await until(live, "online");
  const back = heard(live, "message");
  live.send(new Uint8Array([0, 2, 7, 8, 9]));
  assert.deepEqual([...new Uint8Array(await back)], [0, 2, 7, 8, 9]);
});

for (const [path, options, silence] of [["/ws/hello", {}, 12_000], ["/ws/echo", { heartbeat: true }, 36_000]]) {
  test(`${path}: a server that hangs is noticed, and left for one that answers`, async () => {
    const { now } = Date;
    const live = connect(path, options);
    await until(live, "online");
    await live.request({ type: "ready" });
    server.process.kill("SIGSTOP");
    try {
      // The clock runs faster, the sockets and the timers do not.
      for (let past = 0; live.status === "online" && past < 20; past++) {
        const ahead = ((past + 1) * silence) / 4;
        Date.now = () => now() + ahead;
        await pause(1500);
      }
      assert.deepEqual(live.log[1], ["waiting", 1006]);
    } finally {
      Date.now = now;
      server.process.kill("SIGCONT");
    }
    await until(live, "online");
  });
}
