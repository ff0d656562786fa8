// The peer "node": Node with `ws`, which people would leave Django for. `node node_ws.mjs PORT`.
import { WebSocket, WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });
const message = JSON.stringify({ user: "ann", text: "x".repeat(32) });

const groups = new Map(); // path -> its sockets

const join = (socket, path) => {
  const members = groups.get(path) ?? new Set();
  groups.set(path, members.add(socket));
  socket.on("close", () => members.delete(socket));
  socket.on("message", () => {
    for (const member of members) if (member.readyState === WebSocket.OPEN) member.send(message);
  });
};

server.on("connection", (socket, request) => {
  const path = request.url.split("?")[0];
  if (path === "/plain" || path.startsWith("/deps/")) socket.close(1000);
  else if (path === "/text") socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  else if (path.startsWith("/g")) {
    join(socket, path);
    socket.send("ready");
  }
});
