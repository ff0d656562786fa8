// The peer "node": Node with `ws`, which people would leave Django for. `node node_ws.mjs PORT`.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const path = request.url.split("?")[0];
  if (path === "/plain" || path.startsWith("/deps/")) socket.close(1000);
  else if (path === "/text") socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
