/** The consoles of the home page. What arrives is inserted as text, never as HTML. */
const LINES = 50;

for (const button of document.querySelectorAll("button[data-socket]")) {
  const panel = button.closest(".capability").querySelector(".console");
  const log = panel.querySelector("ol");
  const address = new URL(button.dataset.socket, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  let socket = null;

  const write = (kind, text) => {
    const line = document.createElement("li");
    line.className = kind;
    line.textContent = text;
    log.append(line);
    while (log.children.length > LINES) log.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
  };
  const show = (isOpen) => {
    button.textContent = isOpen ? "Disconnect" : "Connect";
    for (const line of panel.querySelectorAll(".send")) line.disabled = !isOpen;
  };

  button.addEventListener("click", () => {
    panel.hidden = false;
    if (socket) return socket.close();
    let wasOpen = false;
    const current = (socket = new WebSocket(address));
    current.onopen = () => {
      wasOpen = true;
      write("note", "connected");
      show(true);
    };
    current.onmessage = ({ data }) => write("in", typeof data === "string" ? data : `${data.size} bytes`);
    current.onclose = ({ code, reason }) => {
      write("note", wasOpen ? `closed: ${code} ${reason}` : "refused");
      socket = null;
      show(false);
    };
  });
  for (const line of panel.querySelectorAll(".send")) {
    line.disabled = true;
    line.addEventListener("click", () => {
      write("out", line.dataset.line);
      socket.send(line.dataset.line);
    });
  }
}

const form = document.getElementById("publish");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  fetch(form.action, { method: "POST", body: new FormData(form) });
});
