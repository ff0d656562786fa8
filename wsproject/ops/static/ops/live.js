/** The operations page: log entries, newest first. All content is inserted as text, never as HTML. */
import { Live } from "../fastws/live.js";

const find = (id) => document.getElementById(id);
const entries = find("entries");
const { socket, group, position, entries: source } = find("ops").dataset;
const STATES = {
  connecting: "Connecting…",
  online: "Live",
  waiting: "Connection lost – reconnecting…",
  offline: "No network.",
  refused: "You may no longer see this page. Log in again.",
  closed: "The server ended the connection. Reload the page.",
};
const KEEP = 200; // maximum number of rows
const shown = new Map(); // id -> row

const live = new Live(socket);
live.onStatus((status) => {
  find("state").dataset.state = status;
  find("state").firstElementChild.textContent = STATES[status];
});
live.group(group, { position, load }).on("message", (entry) => show(entry, true));
showAll(JSON.parse(find("recent").textContent), false);

/** Fetch the latest entries if the history cannot give back what was missed. */
async function load() {
  const answer = await fetch(source, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
  const { position: until, entries: latest } = await answer.json();
  showAll(latest, true);
  return until;
}

function showAll(list, fresh) {
  for (const entry of list) show(entry, fresh);
  find("empty").hidden = shown.size > 0;
}

function show(entry, fresh) {
  if (shown.has(entry.id)) return;
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
  find("empty").hidden = true;
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
