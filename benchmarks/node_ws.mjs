// The peer "node": Node with `ws`, which people would leave Django for. `node node_ws.mjs PORT`.
import { WebSocket, WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });
const message = JSON.stringify({ user: "ann", text: "x".repeat(32) });

const broadcast = () => {
  for (const client of server.clients) if (client.readyState === WebSocket.OPEN) client.send(message);
};

server.on("connection", (socket, request) => {
  const path = request.url.split("?")[0];
  if (path === "/plain" || path.startsWith("/deps/")) socket.close(1000);
  else if (path === "/text") socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  else if (path === "/g") {
    socket.on("message", broadcast);
    socket.send("ready");
  }
});
