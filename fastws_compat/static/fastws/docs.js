/** The documentation page: what each route says, and a console that connects to it. The data is from `fastws_compat.docs`. */

const data = JSON.parse(document.getElementById("data").textContent);
const { info, routes, messages, schemas, closeCodes, prefix, user } = data;
const { Live } = await import(data.live);

const KEPT = 1000; // frames in a log
const LARGE = 64 * 1024; // a longer frame is folded
// What a route without types may be sent.
const RAW = [{ name: "text", kind: "text", examples: [] }, { name: "bytes", kind: "bytes", examples: [] }];

// Elements: everything that is shown becomes a text node.

function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name in element && !name.startsWith("aria") && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const chip = (text, kind = "") => h("span", { class: `chip ${kind}` }, text);
const button = (text, click, props = {}) => h("button", { type: "button", class: "quiet", click, ...props }, text);

/** Text with `code` in backticks. */
const rich = (text) => String(text ?? "").split(/`([^`\n]+)`/).map((part, odd) => (odd % 2 ? h("code", {}, part) : part));
/** Docstrings are wrapped at the width of the source; lists and tables are not. */
const unwrapped = (text) => (/^\s*([-*|>]|\d+\.|\s{2})/m.test(text) ? text : text.replace(/\s+/g, " "));
const paragraphs = (text) => (text ?? "").split(/\n\s*\n/).filter(Boolean).map((part) => h("p", { class: "text" }, rich(unwrapped(part))));

/** JSON with a color for each kind of token. */
function colored(text) {
  const found = [];
  let last = 0;
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*/g)) {
    found.push(text.slice(last, match.index), h("span", { class: match[2] ? "k" : match[1] ? "s" : "n" }, match[1] ?? match[0]));
    last = match.index + (match[1] ?? match[0]).length;
  }
  return [...found, text.slice(last)];
}

const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** JSON with line breaks, character by character as it came: a browser that parses it rounds long numbers. */
function indented(text) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 50))}`;
  return text.replace(/("(?:[^"\\]|\\.)*")|([{[])\s*([}\]])?|\s*([}\]])|([,:])|\s+/g, (_, string, open, empty, close, mark) => {
    if (string || empty) return string ?? open + empty;
    depth += open ? 1 : close ? -1 : 0;
    if (open) return open + line();
    if (close) return line() + close;
    return mark === "," ? `,${line()}` : mark ? ": " : "";
  });
}

function readable(url) {
  try { return decodeURI(url); } catch { return url; } // a path may have a % of its own
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

async function copy(text, from) {
  // Without TLS there is no clipboard.
  from.textContent = await navigator.clipboard?.writeText(text).then(() => "Copied", () => null) ?? "Not possible";
  setTimeout(() => { from.textContent = "Copy"; }, 1200);
}

/** The fields of a named object as a list; `around` are the names of the objects that it is inside of. */
function fieldsOf(name, around = []) {
  const path = [...around, name];
  return h("ul", {}, schemas[name].map((field) => h("li", {},
    h("span", { class: "name" }, field.name),
    field.required ? h("span", { class: "bad", title: "required" }, "*", h("span", { class: "hidden" }, " (required)")) : null,
    " ", h("span", { class: "type" }, field.type), " ", h("span", { class: "more" }, field.about),
    field.inside.filter((inner) => !path.includes(inner)).map((inner) => fieldsOf(inner, path)))));
}

const tree = ({ type, about, inside }) => h("div", { class: "tree" },
  inside.length === 1 && !/[^\w$]/.test(type) ? null : h("p", {}, h("span", { class: "type" }, type), " ", h("span", { class: "more" }, about)),
  inside.map((name) => fieldsOf(name)));

// The log

const sizeOf = (bytes) => (bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const timeOf = (ms) => (ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const lengthOf = (text) => (text.length > LARGE ? new Blob([text]).size : new TextEncoder().encode(text).length);
const hexOf = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
const ARROWS = { sent: ["↑", "Sent"], received: ["↓", "Received"] };

class Log {
  entries = [];
  #waiting = [];
  #isPaused = false;
  #total = 0;
  #opened = 0;
  #last = 0;
  #calls = new Map(); // by id, the requests without a reply

  constructor(again) {
    this.again = again;
    this.list = h("ul");
    this.view = h("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Frames" }, this.list);
    this.count = h("span", { class: "soft", role: "status" });
    this.filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter", input: () => this.#refilter() });
    this.pause = button("Pause", () => this.#togglePause(), { "aria-pressed": "false" });
    this.tools = h("div", { class: "tools" }, this.filter, this.count, this.pause,
      button("Clear", () => this.clear()),
      button("Copy", ({ target }) => copy(this.lines(), target), { "aria-label": "Copy as JSON lines" }));
    this.empty = h("p", { class: "empty" }, "Nothing yet. Frames of both directions appear here, with their times and sizes.");
    this.element = h("div", { class: "logs" }, this.tools, this.empty, this.view);
    this.view.hidden = true;
  }

  begin() {
    this.#opened = this.#last = performance.now();
    this.#calls.clear();
  }

  /** A frame; `about` has the tag, and whether it is an error. */
  frame(direction, raw, about = {}) {
    const text = typeof raw === "string" ? raw : hexOf(raw);
    const bytes = typeof raw === "string" ? lengthOf(raw) : raw.byteLength;
    const now = performance.now();
    const entry = { direction, raw, text, bytes, at: now - this.#opened, gap: now - this.#last, number: ++this.#total, ...about };
    this.#last = now;
    const [arrow, said] = ARROWS[direction];
    entry.tagged = h("span", { class: "row" });
    entry.acts = h("span", { class: "acts" });
    entry.frame = h("button", { type: "button", class: "frame", "aria-expanded": "false", click: () => this.#unfold(entry) }, text);
    if (bytes > LARGE) {
      entry.frame.classList.add("large");
      entry.tagged.append(chip("folded"));
    }
    if (direction === "sent") entry.acts.append(button("↻", () => this.again(raw), { class: "link", title: "Send again", "aria-label": "Send again" }));
    entry.element = h("li", { class: direction },
      h("span", { class: "dir" }, h("span", { "aria-hidden": "true" }, arrow), h("span", { class: "hidden" }, said)),
      h("span", { class: "num", title: "since the opening" }, timeOf(entry.at)),
      h("span", { class: "num", title: "after the frame before" }, `+${timeOf(entry.gap)}`),
      h("span", { class: "num", title: "bytes" }, sizeOf(bytes)),
      h("span", { class: "what" }, entry.tagged, entry.frame), entry.acts);
    if (about.tag !== undefined) this.tag(entry, about.tag);
    this.#add(entry);
    return entry;
  }

  tag(entry, tag) {
    entry.tag = String(tag);
    if (entry.tag === "error" && entry.direction === "received") entry.element.classList.add("error");
    entry.tagged.prepend(h("span", { class: "tag" }, entry.tag));
    this.#judge(entry);
  }

  call(id, entry) {
    this.#calls.set(id, [...(this.#calls.get(id) ?? []), entry]);
  }

  /** Link a reply, or an error, to its request. */
  reply(id, entry) {
    const [request, ...others] = this.#calls.get(id) ?? [];
    if (!request) return;
    this.#calls.set(id, others);
    const took = timeOf(entry.at - request.at);
    const link = (to, text, title) => button(text, () => this.#show(to), { class: "link", title, "aria-label": `${text}: ${title}` });
    entry.acts.prepend(link(request, `↩ ${took}`, "show the request"));
    request.acts.prepend(link(entry, `↪ ${took}`, "show the reply"));
    [entry.roundTrip, entry.request] = [Math.round(entry.at - request.at), request.number];
  }

  /** What happened to the connection. */
  say(kind, ...said) {
    const now = performance.now();
    const element = h("li", { class: kind }, h("span", { class: "dir", "aria-hidden": "true" }, "•"),
      h("span", { class: "num" }, timeOf(now - this.#opened)), h("div", { class: "said" }, said));
    this.#add({ element, text: element.textContent, event: kind });
  }

  #add(entry) {
    this.#judge(entry);
    const queue = this.#isPaused ? this.#waiting : this.entries;
    queue.push(entry);
    if (this.#isPaused) this.#waiting.splice(0, this.#waiting.length - KEPT);
    else this.#append(entry);
    this.#recount();
  }

  #append({ element }) {
    this.empty.hidden = true;
    this.view.hidden = false;
    const isAtEnd = this.#isAtEnd();
    this.list.append(element);
    for (const old of this.entries.splice(0, this.entries.length - KEPT)) old.element.remove();
    if (isAtEnd) this.#scroll();
  }

  #isAtEnd() {
    return this.scrolling || this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight < 40;
  }

  /** Once per frame that is painted, however many messages arrive. */
  #scroll() {
    this.scrolling ??= requestAnimationFrame(() => {
      this.scrolling = undefined;
      this.view.scrollTop = this.view.scrollHeight;
    });
  }

  #recount() {
    const waiting = this.#waiting.length ? `, ${this.#waiting.length} waiting` : "";
    const kept = this.#total > KEPT ? `last ${KEPT.toLocaleString("en")} of ` : "";
    this.count.textContent = this.#total ? `${kept}${plural(this.#total, "frame")}${waiting}` : "";
  }

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    this.pause.setAttribute("aria-pressed", this.#isPaused);
    for (const entry of this.#waiting.splice(0)) {
      this.entries.push(entry);
      this.#append(entry);
    }
    this.#recount();
  }

  #judge(entry) {
    const wanted = this.filter.value.toLowerCase();
    const text = `${entry.direction ?? ""} ${entry.tag ?? ""} ${entry.text}`;
    entry.element.hidden = Boolean(wanted) && !text.toLowerCase().includes(wanted);
  }

  #refilter() {
    for (const entry of this.entries) this.#judge(entry);
  }

  #unfold(entry) {
    const isOpen = entry.element.classList.toggle("is-open");
    entry.frame.setAttribute("aria-expanded", isOpen);
    const value = isOpen && typeof entry.raw === "string" && entry.bytes <= LARGE ? parsed(entry.text) : undefined;
    entry.frame.replaceChildren(...(value === undefined ? [entry.text] : colored(indented(entry.text))));
  }

  #show({ element }) {
    element.hidden = false;
    element.scrollIntoView({ block: "nearest" });
    element.querySelector(".frame").focus();
    element.classList.add("flash");
    setTimeout(() => element.classList.remove("flash"), 1500);
  }

  clear() {
    this.entries = [];
    this.#waiting = [];
    this.#total = 0;
    this.list.replaceChildren();
    this.view.hidden = true;
    this.empty.hidden = false;
    this.#recount();
  }

  lines() {
    return this.entries.map(({ direction, event, at, bytes, tag, raw, text, roundTrip }) => {
      const frame = direction && { ms: Math.round(at), bytes, tag, roundTrip, [typeof raw === "string" ? "text" : "hex"]: text };
      return JSON.stringify(direction ? { direction, ...frame } : { event, text }) + "\n";
    }).join("");
  }
}

// A route

const REFUSED = [
  "A browser hides the status and the reason: it only says 1006. Look in its developer tools, under Network, or in the server's log.",
  "401: not logged in. 403: not allowed, or a wrong parameter. 404: not found. 429, 503: too many connections. 500: a server error.",
];

const sentenceOf = (code) => closeCodes[code] ?? OTHER_CODES[code]
  ?? (code >= 4400 && code < 4600 ? `Corresponds to HTTP status ${code - 4000}.` : "The application defines this code.");
const OTHER_CODES = {
  1001: "The other side went away.",
  1005: "The close frame has no code.",
  1006: "The connection was lost without a close frame.",
};

class Route {
  #live;
  #socket;
  #fields = [];
  #opened = false;
  #isEnded = true;

  constructor(key) {
    this.key = key;
    this.about = routes[key];
    this.receives = this.about.receives.map((name) => ({ key: name, ...messages[name] }));
    this.sends = this.about.sends.map((name) => messages[name]);
    this.spoken = this.about.isTyped ? this.receives : RAW;
    this.log = new Log((raw) => this.send(raw));
    this.form = this.#makeForm();
    this.dock = this.#makeDock();
    this.article = this.#makeArticle();
    this.#pick();
    this.#update();
    this.#setState("Not connected", "");
  }

  // The documentation

  #makeArticle() {
    const { about } = this;
    const address = `${about.host ? `//${about.host}` : ""}${prefix}${about.address}`;
    return h("article", {},
      h("h1", { tabindex: "-1" }, about.title),
      h("p", { class: "address mono" }, address.split(/(\{\w+\})/).map((part, odd) => (odd % 2 ? h("b", {}, part) : part))),
      h("p", { class: "lead" }, rich(about.summary)),
      paragraphs(about.description),
      h("div", { class: "chips" }, about.deprecated ? chip("deprecated", "bad") : null,
        about.requirements.map((text) => chip(["requires ", rich(text)], "need")), [...about.limits, ...about.tags].map((text) => chip(text))),
      about.schemes.map(({ name, type, place, sent, description }) => h("p", { class: "note" }, h("code", {}, name), `: ${type}, ${place} ${sent}. `, rich(description))),
      this.form,
      this.#spoken("You send", this.receives, "sent", "This route takes no messages."),
      this.#spoken("You receive", this.sends, "received", "This route sends no messages."),
      this.#codes());
  }

  #spoken(title, spoken, side, nothing) {
    if (!this.about.isTyped) nothing = "The types of this route's messages are not declared.";
    const cards = spoken.map((message) => this.#card(message, side));
    return h("section", {}, h("h2", {}, title), cards.length ? h("div", { class: "cards" }, cards) : h("p", { class: "soft" }, nothing));
  }

  #card(message, side) {
    const { name, title, summary, examples, kind } = message;
    const replies = (own(this.about.replies, message.key) ?? []).map((key) => messages[key].name);
    const needs = side === "sent" ? own(this.about.messageRequirements, name) : undefined;
    return h("section", { class: `card ${side}${name === "error" ? " error" : ""}` },
      h("header", {}, h("span", { class: "tag" }, name), title === name ? null : h("h3", {}, title),
        replies.length ? h("span", { class: "soft" }, `answered by ${replies.join(" or ")}`) : null,
        needs?.map((text) => chip(["requires ", rich(text)], "need")),
        side === "sent" ? button("Fill the editor", () => this.#choose(name), { "aria-label": `Fill the editor with ${name}` }) : null),
      summary ? h("p", { class: "soft" }, rich(summary)) : null,
      h("div", { class: "halves" },
        kind === "json" ? tree(message) : null,
        examples.length ? h("div", {}, examples.map((example) => h("pre", { tabindex: "0", "aria-label": `Example of ${name}` }, colored(example)))) : null));
  }

  #codes() {
    const rows = Object.entries(this.about.closeCodes);
    return h("section", {}, h("h2", {}, "Close codes"), h("table", {}, h("tbody", {},
      rows.map(([code, said]) => h("tr", {}, h("th", { scope: "row" }, code), h("td", {}, rich(said)))))));
  }

  // Parameters

  #makeForm() {
    const { fields, schemes, cookies } = this.about;
    const secrets = schemes.filter(({ place }) => place === "protocol" || place === "query");
    const made = [...fields.map((field) => this.#field(field)), ...secrets.map((scheme) => this.#secret(scheme))];
    this.headers = [...new Set([...this.about.headers, ...schemes.filter(({ place }) => place === "header").map(({ sent }) => sent)])];
    const listed = (names) => names.map((name, index) => [index ? ", " : "", h("code", {}, name)]);
    const note = (...text) => h("p", { class: "note" }, text);
    this.command = h("pre", { tabindex: "0", "aria-label": "Command line", hidden: !this.headers.length });
    return h("section", { hidden: !made.length && !this.headers.length && !cookies.length }, h("h2", {}, "Parameters"),
      h("form", { class: "fields", submit: (event) => { event.preventDefault(); this.connect(); } }, made, h("button", { hidden: true })),
      cookies.length ? note("Cookies, which the browser sends by itself: ", listed(cookies), ".") : null,
      this.headers.length ? note("Headers: ", listed(this.headers), ". A browser cannot set these. A command line can:") : null,
      this.command);
  }

  #field({ place, name, about, required, choices, isMany, default: preset, example }) {
    const known = { spellcheck: "false", "aria-required": required || null, placeholder: isMany ? "one value per line" : preset };
    const control = choices.length ? h("select", {}, [...(required ? [] : [""]), ...choices].map((one) => h("option", { value: one }, one || `(${preset || "not sent"})`)))
      : h(isMany ? "textarea" : "input", known);
    if (required && example) control.value = example;
    return this.#labelled(name, about, control, { place, required, isMany });
  }

  /** Kept in memory only. */
  #secret({ name, place, sent }) {
    const isProtocol = place === "protocol";
    const control = h("input", { type: "password" });
    const about = `${name} · ${isProtocol ? `subprotocol ${sent}` : place} · not stored, and not part of the link`;
    return this.#labelled(isProtocol ? "token" : sent, about, control, { place: `secret ${place}`, sent });
  }

  #labelled(name, about, control, field) {
    const id = `field-${this.#fields.length}`;
    this.#fields.push({ name, control, ...field });
    for (const [key, value] of Object.entries({ id, autocomplete: "off", "aria-describedby": `${id}-about` })) control.setAttribute(key, value);
    control.addEventListener("input", () => this.#update());
    return h("div", { class: "field" }, h("label", { for: id }, name), h("small", { id: `${id}-about` }, about), control);
  }

  #valuesOf({ control, isMany }) {
    const value = control.value;
    return isMany ? value.split("\n").filter(Boolean) : value === "" ? [] : [value];
  }

  #inPlace(place) {
    return this.#fields.filter((field) => field.place === place);
  }

  #filled(template, place, encode) {
    const values = Object.fromEntries(this.#inPlace(place).map((field) => [field.name, field.control.value]));
    return template.replace(/\{(\w+)\}/g, (whole, name) => (values[name] ? encode(values[name], name) : whole));
  }

  get host() {
    if (!this.about.host) return location.host;
    const host = this.#filled(this.about.host, "host", String);
    return location.port && !host.includes(":") ? `${host}:${location.port}` : host;
  }

  /** The URL; with `isShown`, secrets are dots. */
  url(isShown = false) {
    const paths = this.about.paths ?? [];
    const encode = (value, name) => (paths.includes(name) ? value.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(value));
    const query = new URLSearchParams();
    for (const field of this.#inPlace("query")) for (const value of this.#valuesOf(field)) query.append(field.name, value);
    for (const { name, control } of this.#inPlace("secret query")) if (control.value) query.append(name, isShown ? "•••" : control.value);
    const search = query.size ? `?${query}` : "";
    return `${location.protocol.replace("http", "ws")}//${this.host}${prefix}${this.#filled(this.about.address, "path", encode)}${search}`;
  }

  #update() {
    const url = this.url(true);
    this.shownUrl.textContent = this.shownUrl.title = readable(url);
    this.command.textContent = `npx wscat --connect '${url.replaceAll("'", "%27")}' --origin '${location.origin}'${this.headers.map((name) => ` \\\n  --header '${name}: …'`).join("")}`;
    for (const { control } of this.#fields) control.removeAttribute("aria-invalid");
    if (this.isShown) history.replaceState(null, "", this.link());
  }

  link() {
    const query = new URLSearchParams();
    for (const field of this.#fields) if (!field.sent) for (const value of this.#valuesOf(field)) query.append(field.name, value);
    return `${linkTo(this.key)}${query.size ? `?${query}` : ""}`;
  }

  /** Fill the fields that a link names; of two fields with one name, each has its own value. */
  fill(query) {
    for (const { name, sent, isMany, control } of this.#fields) {
      const values = sent ? [] : query.getAll(name);
      const own = values.splice(0, isMany ? values.length : 1);
      if (!own.length) continue;
      control.value = own.join("\n");
      query.delete(name);
      for (const value of values) query.append(name, value);
    }
    this.#update();
  }

  // The console

  #makeDock() {
    const action = (text, click, kind = "quiet") => button(text, click, { class: kind });
    this.state = h("span", { class: "state", role: "status" });
    this.shownUrl = h("code", { class: "url" });
    this.connector = action("Connect", () => this.connect(), "main");
    this.closer = action("Close", () => this.close());
    this.code = h("input", { "aria-label": "Close code", value: "1000", inputmode: "numeric" });
    this.closing = h("span", { class: "row" }, this.closer, h("span", { class: "soft", "aria-hidden": "true" }, "with"), this.code);
    this.note = h("p", { class: "problem", role: "alert" });
    const wire = h("div", { class: "wire" }, h("h2", { class: "hidden" }, "Console"), this.state, this.shownUrl, this.connector, this.closing, this.note);
    const work = h("div", { class: "work" }, this.#makeComposer(), this.log.element);
    return h("section", { class: "dock", "aria-label": "Console", id: "console" }, grip(), wire, work);
  }

  #makeComposer() {
    const id = `editor-${this.key}`;
    this.picker = h("select", { id: `picker-${this.key}`, class: "grow", change: () => this.#pick() },
      this.spoken.map(({ name }) => h("option", { value: name }, name)));
    this.editor = h("textarea", { id, "aria-label": "Message to send", spellcheck: "false", autocomplete: "off", "aria-describedby": `${id}-problem`,
      input: () => this.#check(), keydown: (event) => this.#shortcut(event) });
    this.file = h("input", { type: "file", "aria-label": "File to send" });
    this.problem = h("p", { class: "problem", id: `${id}-problem`, role: "alert" });
    this.sender = button("Send", () => this.#sendEdited(), { class: "main" });
    if (!this.spoken.length) return h("div", { class: "compose" }, h("p", { class: "soft" }, "This route takes no messages: connect, and read."));
    return h("div", { class: "compose" },
      h("div", { class: "row" }, h("label", { for: this.picker.id }, "Message"), this.picker),
      this.editor, this.file, this.problem,
      h("div", { class: "row" }, this.sender, h("span", { class: "soft" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter"))));
  }

  get picked() {
    return this.spoken.find(({ name }) => name === this.picker.value);
  }

  get #isBinary() {
    return this.picked.kind === "bytes";
  }

  #choose(name) {
    this.picker.value = name;
    this.#pick();
    this.editor.focus();
    this.dock.scrollIntoView({ block: "nearest" });
  }

  #pick() {
    if (!this.spoken.length) return;
    this.file.hidden = !this.#isBinary;
    this.editor.hidden = this.#isBinary;
    const [example] = this.picked.examples;
    this.editor.value = example ?? (this.picked.kind === "json" ? "{}" : "");
    this.#check();
  }

  /** Only the syntax: what is valid is for the server to say. */
  #check() {
    let problem = "";
    try {
      if (this.picked.kind === "json") JSON.parse(this.editor.value);
    } catch (error) {
      problem = `This is not JSON: ${error.message}`;
    }
    this.problem.textContent = problem;
    this.editor.toggleAttribute("aria-invalid", false);
    if (problem) this.editor.setAttribute("aria-invalid", "true");
    return !problem;
  }

  #shortcut(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.#sendEdited();
  }

  async #sendEdited() {
    if (!this.#check()) return this.editor.focus();
    if (!this.#isBinary) return this.send(this.editor.value);
    const [file] = this.file.files;
    if (!file) this.problem.textContent = "Choose a file.";
    else this.send(await file.arrayBuffer());
  }

  send(raw) {
    if (this.#live?.status !== "online") this.problem.textContent = "Connect first.";
    else this.#live.send(raw);
  }

  /** The first field that the URL cannot do without. */
  #missing() {
    return [...this.#inPlace("host"), ...this.#inPlace("path")].find(({ control }) => !control.value);
  }

  #refusal() {
    const missing = this.#missing();
    if (missing) {
      missing.control.setAttribute("aria-invalid", "true");
      missing.control.focus();
      return `The URL needs a value for “${missing.name}”.`;
    }
    if (this.host === location.host) return "";
    return `A page can only connect to its own host. Open it on ${this.host}.`;
  }

  get protocols() {
    return this.#inPlace("secret protocol").flatMap(({ sent, control }) => (control.value ? [sent, control.value] : []));
  }

  connect() {
    this.note.textContent = this.#refusal() || (this.protocols.every((name) => /^[\w!#$%&'*+.^`|~-]+$/.test(name)) ? "" : "The token has characters that a subprotocol cannot have.");
    if (this.note.textContent || !this.#isEnded) return;
    this.log.element.parentElement.scrollIntoView({ block: "nearest" });
    [this.#isEnded, this.#opened] = [false, false];
    this.problem.textContent = "";
    this.log.begin();
    this.log.say("event", `Connecting to ${this.url(true)}`);
    this.#setState("Connecting…", "busy");
    this.#live = new Live(this.url(), {
      protocols: this.protocols, tag: this.about.tag, text: this.about.text, backoff: () => null, WebSocket: this.#tapped(),
    });
    this.#live.on("message", (message) => this.#deliver(message));
    this.#live.onStatus((status, event) => { if (event) this.#end(event); });
  }

  /** A socket that tells the log what passes it. */
  #tapped() {
    const route = this;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(route.url(), protocols); // without the parameter of `live.js`: frames come as they are documented
        route.#socket = this;
        this.addEventListener("open", () => route.#open(this));
        this.addEventListener("message", ({ data: raw }) => { route.received = route.log.frame("received", raw); });
        this.addEventListener("close", (event) => route.#socket === this && route.#end(event));
      }

      send(raw) {
        super.send(raw);
        route.#sent(raw);
      }
    };
  }

  #open(socket) {
    this.#opened = true;
    this.log.begin();
    this.log.say("event", `Open${socket.protocol ? `, with the subprotocol ${socket.protocol}` : ""}.`);
    this.#setState("Open", "open");
  }

  #sent(raw) {
    const value = typeof raw === "string" && !this.about.text ? parsed(raw) : undefined;
    const entry = this.log.frame("sent", raw, { tag: value?.[this.about.tag] });
    if (value?.id !== undefined) this.log.call(value.id, entry);
  }

  /** The frame itself is in the log. */
  #deliver(message) {
    const tag = message?.[this.about.tag];
    if (tag === undefined) return;
    this.log.tag(this.received, tag);
    const isReply = tag === "error" || this.sends.some(({ name, hasId }) => hasId && name === String(tag));
    if (isReply && message.id !== undefined) this.log.reply(message.id, this.received);
  }

  close() {
    const code = Number(this.code.value);
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
      this.note.textContent = "A browser can close with 1000, and with 3000 to 4999.";
      return;
    }
    this.note.textContent = "";
    this.#live.close(code);
    if (!this.#opened) this.#end({ code: 1006, reason: "" }, "The attempt was stopped here.");
  }

  #end({ code, reason }, said) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const sentence = said ?? (this.#opened ? sentenceOf(code) : "The handshake was refused, or the server does not answer.");
    const isGood = code === 1000 || said;
    this.log.say(`end${isGood ? "" : " error"}`, h("strong", {}, this.#opened ? `Closed with ${code}` : `Not opened (${code})`),
      reason ? ` “${reason}”` : "", ". ", sentence, this.#opened || said ? null : this.#help());
    this.#setState(this.#opened ? `Closed with ${code}` : "Refused", isGood ? "" : "bad");
    this.log.view.scrollIntoView({ block: "nearest" });
  }

  #help() {
    const needs = this.about.requirements.length && !user ? `This route requires ${this.about.requirements.join("; ").replaceAll("`", "")}, and you are not logged in.` : null;
    const empty = this.#inPlace("query").filter((field) => field.required && !this.#valuesOf(field).length).map(({ name }) => `The parameter “${name}” is required and has no value.`);
    const unset = this.headers.length ? "It may need a header, which a browser cannot set." : null;
    return [needs, ...empty, unset, ...REFUSED].filter(Boolean).map((text) => h("p", {}, `– ${text}`));
  }

  #setState(text, kind) {
    const isOpen = kind === "open";
    const hadFocus = [this.connector, this.closer].includes(document.activeElement);
    this.state.textContent = text;
    this.state.className = `state ${kind}`;
    this.isOpen = isOpen;
    this.connector.hidden = isOpen || kind === "busy";
    this.closing.hidden = !this.connector.hidden;
    // A button that is hidden loses the focus.
    if (hadFocus) (this.connector.hidden ? this.closer : this.connector).focus({ preventScroll: true });
    if (this.sender) this.sender.disabled = !isOpen;
    markOpen(this.key, isOpen);
  }
}

// The console's height

let height = 44;

function grip() {
  const set = (percent) => {
    height = Math.min(80, Math.max(20, percent));
    document.documentElement.style.setProperty("--dock", `${height}vh`);
    element.setAttribute("aria-valuenow", Math.round(height));
  };
  const element = h("div", { class: "grip", role: "separator", tabindex: "0", "aria-orientation": "horizontal", "aria-label": "Height of the console",
    "aria-valuenow": "44", "aria-valuemin": "20", "aria-valuemax": "80",
    keydown: ({ key }) => set(height + (({ ArrowUp: 4, ArrowDown: -4 })[key] ?? 0)),
    pointerdown: (event) => element.setPointerCapture(event.pointerId),
    pointermove: (event) => { if (element.hasPointerCapture(event.pointerId)) set(100 - (event.clientY / innerHeight) * 100); } });
  return element;
}

// Navigation

const nav = document.getElementById("routes");
const main = document.getElementById("main");
const menu = document.querySelector(".menu");
const links = new Map();
const linkTo = (key) => `#/${encodeURIComponent(key).replaceAll("%3A", ":")}`;
const shown = new Map();

function makeNav() {
  const groups = new Map();
  for (const [key, route] of Object.entries(routes)) {
    const tag = route.tags[0] ?? "";
    groups.set(tag, [...(groups.get(tag) ?? []), [key, route]]);
  }
  const search = h("input", { class: "search", type: "search", placeholder: "Search", "aria-label": "Search routes", "aria-keyshortcuts": "/", input: () => find(search.value) });
  const names = [...groups.keys()].sort((one, two) => (one === "") - (two === "") || one.localeCompare(two));
  nav.append(search, ...names.map((tag) => h("section", {},
    names.length > 1 ? h("h2", {}, tag || "Other") : null,
    h("ul", {}, groups.get(tag).map(([key, route]) => h("li", {}, navLink(key, route)))))),
  h("p", { class: "none", hidden: links.size > 0 }, links.size ? "No route matches." : "This project has no WebSocket routes."));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    openMenu(true);
    search.focus();
  });
  nav.addEventListener("keydown", (event) => step(event));
}

function navLink(key, { title, address, summary, tags, deprecated }) {
  const link = h("a", { href: linkTo(key), class: deprecated ? "old" : null }, h("strong", {}, title), h("code", {}, address));
  link.found = [key, title, address, summary, ...tags].join(" ").toLowerCase();
  links.set(key, link);
  return link;
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/);
  for (const link of links.values()) link.parentElement.hidden = !words.every((word) => link.found.includes(word));
  const sections = [...nav.querySelectorAll("section")];
  for (const section of sections) section.hidden = !section.querySelector("li:not([hidden])");
  nav.querySelector(".none").hidden = sections.some((section) => !section.hidden);
}

/** Arrow keys go from route to route. */
function step(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const places = [nav.querySelector(".search"), ...[...links.values()].filter((link) => link.offsetParent)];
  places[Math.max(0, Math.min(places.length - 1, places.indexOf(document.activeElement) + by))].focus();
}

function markOpen(key, isOpen) {
  links.get(key).querySelector(".dot")?.remove();
  if (isOpen) links.get(key).append(h("span", { class: "dot", title: "open" }, h("span", { class: "hidden" }, "open")));
}

function openMenu(isOpen) {
  nav.classList.toggle("is-open", isOpen);
  menu.setAttribute("aria-expanded", isOpen);
}

function overview() {
  const { title, version, description, contact, license, termsOfService } = info;
  const link = (url, text) => (/^(https?|mailto):/.test(url) ? h("a", { href: url }, text) : text);
  const facts = [contact && link(contact.url ?? (contact.email && `mailto:${contact.email}`), contact.name ?? contact.email ?? contact.url),
    license && link(license.url, license.name), termsOfService && link(termsOfService, "Terms of service")];
  const keys = (...names) => names.map((name) => [h("kbd", {}, name), " "]);
  const card = (heading, ...text) => h("p", { class: "card soft" }, h("strong", {}, heading), h("br"), text);
  return h("article", {}, h("h1", { tabindex: "-1" }, title, " ", chip(version)), paragraphs(description),
    h("div", { class: "chips" }, facts.filter(Boolean).map((fact) => chip(fact))),
    h("div", { class: "fields intro" },
      card(`${plural(links.size, "route")}, ${plural(Object.keys(messages).length, "message")}`, "Choose a route to read its documentation, connect to it and see every frame."),
      card(user ? `You are ${user}` : "You are not logged in", "Sockets use your session, and have the permissions that you have on the rest of the site."),
      card("By keyboard", keys("/"), "searches, ", keys("↑", "↓"), "go through the routes, ", keys("Ctrl", "Enter"), "sends.")));
}

function show(focus) {
  if (focus && location.hash && !location.hash.startsWith("#/")) return; // the skip link
  const [name, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  let key = name;
  try { key = decodeURIComponent(name); } catch { /* as it is */ }
  for (const [other, link] of links) link.toggleAttribute("aria-current", false);
  for (const route of shown.values()) route.isShown = false;
  document.body.classList.toggle("has-route", Object.hasOwn(routes, key));
  openMenu(false);
  if (!Object.hasOwn(routes, key)) {
    document.title = `${info.title} · WebSockets`;
    main.replaceChildren(overview());
    return;
  }
  if (!shown.has(key)) shown.set(key, new Route(key));
  const route = shown.get(key);
  links.get(key).setAttribute("aria-current", "page");
  document.title = `${route.about.title} · ${info.title}`;
  main.replaceChildren(route.article, route.dock);
  route.isShown = true;
  route.fill(new URLSearchParams(query ?? ""));
  if (focus) route.article.querySelector("h1").focus();
}

makeNav();
menu.addEventListener("click", () => openMenu(!nav.classList.contains("is-open")));
addEventListener("hashchange", () => show(true));
show(false);
