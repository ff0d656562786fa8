/** The operations page: log entries, newest first. All content is inserted as text, never as HTML. */
import { Live } from "../fastws/live.js";

const find = (id) => document.getElementById(id);
const entries = find("entries");
const STATES = {
  connecting: "Connecting…",
  online: "Live",
  waiting: "Connection lost – reconnecting…",
  offline: "No network.",
  refused: "You may no longer see this page. Log in again.",
  closed: "The server ended the connection. Reload the page.",
};
const KEEP = 200; // maximum number of rows
const OVERLAP = 20; // transactions may commit in a different order than the ids of their entries
const shown = new Map(); // id -> row
let last = 0;

const live = new Live(find("ops").dataset.socket, {
  query: () => ({ after: Math.max(0, last - OVERLAP) }),
  heartbeat: true,
});
live.onStatus((status) => {
  find("state").dataset.state = status;
  find("state").firstElementChild.textContent = STATES[status];
});
live.on("message", (frame) => {
  if (frame.type === "entry") show(frame, true);
  else frame.entries.forEach((entry) => show(entry, last > 0 && entries.ariaBusy === "false"));
  entries.ariaBusy = "false";
  find("empty").hidden = shown.size > 0;
});

function show(entry, fresh) {
  if (shown.has(entry.id)) return;
  last = Math.max(last, entry.id);
  const row = document.createElement("tr");
  row.dataset.id = entry.id;
  row.className = fresh ? "fresh" : "";
  row.append(
    cell("When", moment(entry.at)), cell("Who", entry.user), cell("What", action(entry)),
    cell("Object", object(entry)), cell("Change", entry.change || "–"),
  );
  let after = entries.firstElementChild;
  while (after && Number(after.dataset.id) > entry.id) after = after.nextElementSibling;
  entries.insertBefore(row, after);
  shown.set(entry.id, row);
  if (shown.size > KEEP) entries.lastElementChild.remove();
}

function cell(label, content) {
  const made = document.createElement("td");
  made.dataset.label = label;
  made.append(content); // a string becomes a text node
  return made;
}

function action({ flag, action }) {
  const made = document.createElement("span");
  made.className = { 1: "addlink", 2: "changelink", 3: "deletelink" }[flag] ?? "";
  made.textContent = action;
  return made;
}

function object({ kind, object, url }) {
  const made = document.createElement("span");
  const name = document.createElement(url ? "a" : "strong");
  if (url) name.href = url;
  name.textContent = object;
  const small = document.createElement("small");
  small.textContent = ` ${kind}`;
  made.append(name, small);
  return made;
}

function moment(iso) {
  const made = document.createElement("time");
  made.dateTime = iso;
  made.textContent = new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  return made;
}
