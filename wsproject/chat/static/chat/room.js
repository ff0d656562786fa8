/** One room. Everything from the server is inserted as text, never as HTML. */
import { connect } from "./sockets.js";

const find = (id) => document.getElementById(id);
const { slug, user: me, group, position, messages: source } = find("chat").dataset;
const [scroll, messages, text] = [find("scroll"), find("messages"), find("text")];
const LOST = ["Reconnecting…", "Connection lost. Your messages are kept and will be sent when it is restored."];
const STATES = {
  connecting: ["Connecting…", ""],
  online: ["Online", ""],
  waiting: LOST,
  offline: LOST,
  refused: ["Signed out", "You are no longer logged in, or the room is gone."],
  closed: ["Disconnected", "The server ended the connection."],
};

// ---- Messages --------------------------------------------------------------------------------------

const shown = new Map(); // id -> element

function hear(said) {
  quiet(said.user);
  show(said);
}

/** Fetch the newest messages if the history cannot give back what was missed. */
async function load() {
  const answer = await fetch(source, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
  const { position: until, messages: page } = await answer.json();
  const follow = atEnd();
  shown.clear();
  messages.replaceChildren();
  page.forEach(show);
  showEmpty();
  if (follow) toEnd();
  return until;
}

function show(said) {
  if (said.user === me) settle(said.key);
  if (shown.has(said.id)) return;
  const follow = atEnd() || said.user === me;
  const item = bubble(said);
  item.dataset.id = said.id;
  item.dataset.author = said.user;
  shown.set(said.id, item);
  let before = messages.lastElementChild;
  while (before && Number(before.dataset.id) > said.id) before = before.previousElementSibling;
  before ? before.after(item) : messages.prepend(item);
  for (const one of [item, item.nextElementSibling]) one && join(one);
  showEmpty();
  follow ? toEnd() : (find("newer").hidden = false);
}

function showEmpty() {
  find("empty").hidden = shown.size + outbox.size > 0;
}

/** Consecutive messages of one author share one heading. */
function join(item) {
  item.classList.toggle("same", item.previousElementSibling?.dataset.author === item.dataset.author);
}

function bubble({ user, text, sent_at }) {
  const item = element("li", user === me ? "mine" : "");
  item.style.setProperty("--hue", [...user].reduce((hue, sign) => (hue * 31 + sign.codePointAt(0)) % 360, 7));
  const body = element("div", "bubble");
  const head = element("p", "head");
  head.append(element("strong", "", user === me ? "You" : user));
  const foot = element("p", "foot");
  if (sent_at) foot.append(moment(new Date(sent_at)));
  body.append(head, element("p", "text", text), foot);
  item.append(element("span", "avatar", [...user][0].toUpperCase()), body);
  item.firstChild.ariaHidden = "true";
  return item;
}

function moment(date) {
  const today = date.toDateString() === new Date().toDateString();
  const time = element("time", "", date.toLocaleString([], {
    ...(today ? {} : { day: "numeric", month: "short" }), hour: "2-digit", minute: "2-digit",
  }));
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  return time;
}

function element(name, className, content = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

// ---- Messages to send -----------------------------------------------------------------------------

const outbox = new Map(); // key -> element

/** The client sends it again after each reconnect, until the room has it. */
function post(text) {
  const key = room.live.key();
  const item = bubble({ user: me, text });
  item.classList.add("waiting");
  outbox.set(key, item);
  find("outbox").append(item);
  showEmpty();
  toEnd();
  // An error frame has the `id` of the message that caused it.
  if (room.live.post(key, { type: "post", id: key, text })) note(item);
  else fail(key, "Too many messages are waiting.");
}

function settle(key) {
  room.live.settle(key);
  outbox.get(key)?.remove();
  outbox.delete(key);
}

function fail(key, detail) {
  const item = outbox.get(key);
  settle(key);
  if (!item) return;
  item.classList.add("failed");
  item.querySelector(".foot").textContent = `Not sent. ${detail}`;
  find("outbox").append(item);
}

function note(item) {
  item.querySelector(".foot").textContent = room.status === "online" ? "Sending…" : "Waiting for the connection";
}

// ---- Who is typing ---------------------------------------------------------------------------------

const typing = new Map(); // user -> timer
let told = 0;

function tellTyping() {
  if (!text.value.trim() || Date.now() - told < 2_000) return;
  if (room.send({ type: "typing" })) told = Date.now();
}

function hearTyping(user) {
  clearTimeout(typing.get(user));
  typing.set(user, setTimeout(() => quiet(user), 4_000));
  showTyping();
}

function quiet(user) {
  clearTimeout(typing.get(user));
  if (typing.delete(user)) showTyping();
}

function showTyping() {
  const names = [...typing.keys()];
  const words = names.length > 2 ? "Several people are" : names.join(" and ") + (names.length > 1 ? " are" : " is");
  find("typing").textContent = names.length ? `${words} typing…` : "";
}

// ---- Who is here -----------------------------------------------------------------------------------

function showPeople() {
  const names = [...here.people.values()].map(({ name }) => name).sort();
  find("people").replaceChildren(...names.map((name) => element("li", "", name === me ? `${name} (you)` : name)));
  find("count").textContent = here.count === 1 ? "1 person here" : `${here.count} people here`;
}

// ---- The page --------------------------------------------------------------------------------------

function showState(status) {
  // While it reconnects, the page does not switch back and forth at each attempt.
  const state = status === "connecting" && STATES[find("state").dataset.state] === LOST ? "waiting" : status;
  const [short, long] = STATES[state];
  find("state").dataset.state = state;
  find("state").firstElementChild.textContent = short;
  find("banner").hidden = !long;
  find("banner-text").textContent = long;
  find("retry").hidden = state === "refused";
  find("login").hidden = state !== "refused";
  if (state !== "online") told = 0;
  outbox.forEach(note);
}

function atEnd() {
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
}

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
  find("newer").hidden = true;
}

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const written = text.value.trim();
  if (!written) return;
  post(written);
  text.value = "";
  told = 0;
  text.focus();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("composer").requestSubmit();
});
text.addEventListener("input", tellTyping);
find("retry").addEventListener("click", () => room.retry());
find("newer").addEventListener("click", toEnd);
scroll.addEventListener("scroll", () => atEnd() && (find("newer").hidden = true));

const room = connect("/ws/chat/{slug}", { params: { slug }, queue: 0, store: `chat:${me}:${slug}` });
const here = room.live.group(group, { position, load });
here.on("presence", showPeople);
room.onStatus(showState);
room.on("said", hear);
room.on("error", ({ id, detail }) => fail(id, detail[0]?.msg ?? detail));
room.on("typing", ({ user }) => user !== me && hearTyping(user));
JSON.parse(find("recent").textContent).forEach(show);
showEmpty();
toEnd();
text.focus();
