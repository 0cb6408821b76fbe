// What every page does: keeps itself fresh, opens dialogs, says when the server or the sign-in is
// gone. Without it pages work all the same, one by one.

import { becomeChildren } from "./becoming.js";

const main = document.getElementById("content");
const lost = document.getElementById("lost");
const words = document.getElementById("words")?.dataset ?? {};
const REFRESH_S = 30; // ages grow though nothing happens
const SETTLE_MS = 700; // several events make one refresh
const AT_MOST_EVERY_MS = 2000;
const BRANCHES_MAX = 30; // so many open ones are kept fresh

// The reader's time zone, in which the server writes.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.split("; ").includes(`fleetgate_zone=${zone}`)) {
  document.cookie = `fleetgate_zone=${zone}; path=/; max-age=31536000; samesite=lax`;
}

// One clear message at a time; a link says what to do.

function say(text, link, href) {
  lost.replaceChildren(document.createTextNode(text));
  if (link) {
    const anchor = document.createElement("a");
    anchor.textContent = link;
    anchor.href = href;
    lost.append(" ", anchor);
  }
  lost.hidden = false;
}

function signInAddress() {
  return `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
}

let over = false;

function isOver(answer) {
  if (answer.status === 401 || (answer.redirected && new URL(answer.url).pathname === "/login")) {
    say(words.out, words.inAgain, signInAddress());
    over = true;
  }
  return over;
}

function isNewer(page) {
  if (page.dataset.version !== main.dataset.version) {
    say(words.new, words.reload, location.href);
    over = true;
  }
  return over;
}

// Freshness: events of the server say when; `data-live` names the kinds, `data-refresh` seconds.

let source = null;
let due = null;
let refreshedAt = Date.now();
let answeredAt = new Date();

// What stands at the address now; nothing where the sign-in is over.
async function read(href) {
  const answer = await fetch(href, {
    headers: { Accept: "text/html", "X-Refresh": "true" },
    signal: AbortSignal.timeout(10000),
  });
  if (isOver(answer)) return null;
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// The page knows nothing of branches that were opened: each is asked for as it was then.
async function refreshBranches() {
  const open = [...main.querySelectorAll("details.branch[open]")].slice(0, BRANCHES_MAX);
  for (const branch of open) {
    const below = branch.querySelector(":scope > .below");
    if (!branch.isConnected || !below?.querySelector(":scope > .tree")) continue; // gone, or on its way
    const fresh = await read(branch.getAttribute("hx-get"));
    if (!fresh) return;
    becomeChildren(below, fresh.body);
  }
}

async function refresh() {
  due = null;
  if (over || document.visibilityState !== "visible") return;
  if (main.querySelector(".selecting input:checked")) return; // rows are being chosen
  refreshedAt = Date.now();
  try {
    const fresh = (await read(location.href))?.getElementById("content");
    if (!fresh || isNewer(fresh)) return;
    becomeChildren(main, fresh);
    if (fresh.dataset.live) main.dataset.live = fresh.dataset.live; // goes on from here
    await refreshBranches();
    answeredAt = new Date();
    lost.hidden = true;
    document.dispatchEvent(new CustomEvent("refreshed"));
  } catch {
    say(`${words.lost} ${answeredAt.toLocaleTimeString()}`);
  }
}

function refreshSoon() {
  if (due !== null || over) return;
  const wait = Math.max(SETTLE_MS, refreshedAt + AT_MOST_EVERY_MS - Date.now());
  due = setTimeout(refresh, wait);
}

function follow() {
  // A browser gives one site six connections for all its tabs: only the one in front listens.
  if (!main?.dataset.live || source || over || document.visibilityState !== "visible") return;
  source = new EventSource(main.dataset.live);
  for (const kind of (main.dataset.kinds ?? "").split(" ").filter(Boolean)) {
    source.addEventListener(kind, refreshSoon);
  }
  source.addEventListener("reset", refreshSoon);
  source.addEventListener("end", (event) => {
    source.close();
    source = null;
    refreshSoon(); // it says why: signed out, or a right that is gone
  });
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      refreshSoon();
      setTimeout(follow, 5000);
    } else {
      refreshSoon();
    }
  });
}

function unfollow() {
  source?.close();
  source = null;
}

if (main && (main.dataset.live || main.dataset.refresh)) {
  const every = Number(main.dataset.refresh || REFRESH_S);
  setInterval(refreshSoon, every * 1000);
  follow();
}

// A branch that is opened again shows what is there now.
main?.addEventListener(
  "toggle",
  (event) => {
    if (event.target.matches("details.branch[open]:has(> .below > .tree)")) refreshSoon();
  },
  true,
);

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    follow();
    if (main?.dataset.live || main?.dataset.refresh) refreshSoon();
  } else {
    unfollow();
  }
});
window.addEventListener("pagehide", unfollow);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) follow();
});

// On a phone not all rooms fit: the one where one is can be seen.
function showRoom() {
  const room = document.querySelector(".rooms [aria-current]");
  if (!room) return;
  const rooms = room.parentElement;
  rooms.scrollLeft = room.offsetLeft - (rooms.clientWidth - room.clientWidth) / 2;
}
showRoom();
window.addEventListener("resize", showRoom);

// Dialogs: a page of its own whose `.dialog-body` is shown in front of this one.

const dialog = document.getElementById("dialog");

// A field in front may be called as one of the page behind it: its label names the one in front.
const NAMING = ["for", "list", "aria-describedby", "aria-labelledby", "aria-controls"];

function ownIds(body) {
  const inFront = new Map();
  for (const node of body.querySelectorAll("[id]")) {
    if (!document.getElementById(node.id)) continue;
    inFront.set(node.id, `front-${node.id}`);
    node.id = `front-${node.id}`;
  }
  const named = (id) => inFront.get(id) ?? id;
  for (const name of NAMING) {
    for (const node of body.querySelectorAll(`[${name}]`)) {
      node.setAttribute(name, node.getAttribute(name).split(" ").map(named).join(" "));
    }
  }
  for (const node of body.querySelectorAll('[hx-target^="#"]')) {
    node.setAttribute("hx-target", `#${named(node.getAttribute("hx-target").slice(1))}`);
  }
}

async function openDialog(href) {
  let answer;
  try {
    answer = await fetch(href, { headers: { Accept: "text/html" } });
  } catch {
    say(`${words.lost} ${answeredAt.toLocaleTimeString()}`);
    return;
  }
  if (isOver(answer)) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const body = page.querySelector(".dialog-body");
  if (!answer.ok || !body) {
    location.href = href;
    return;
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.setAttribute("aria-label", words.close);
  close.textContent = "✕";
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren();
  ownIds(body);
  dialog.append(close, document.importNode(body, true));
  const title = dialog.querySelector("h1, h2");
  if (title) title.id = "dialog-title";
  for (const input of dialog.querySelectorAll('input[name="then"]')) {
    if (input.value === new URL(href, location.href).pathname + new URL(href, location.href).search) {
      input.value = location.pathname + location.search;
    }
  }
  // Whoever opens a form means to fill it in.
  dialog.querySelector("input:not([type=hidden]), select, textarea")?.setAttribute("autofocus", "");
  window.htmx?.process(dialog);
  dialog.showModal();
  dialog.dispatchEvent(new CustomEvent("opened", { bubbles: true }));
}

// Off loopback a page without TLS may not use the clipboard: then the text is chosen for the reader.
async function copyText(button, from) {
  try {
    await navigator.clipboard.writeText(from.textContent.trim());
    button.textContent = words.copied;
  } catch {
    getSelection().selectAllChildren(from);
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-dialog]");
  if (link && dialog && window.htmx && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openDialog(link.href);
    return;
  }
  const copy = event.target.closest?.("button[data-copy]");
  if (copy) {
    copyText(copy, document.getElementById(copy.dataset.copy));
    return;
  }
  const print = event.target.closest?.("button[data-print]");
  if (print) window.print();
  // A menu closes when one clicks beside it.
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const found = document.getElementById("found");
  if (found && !event.target.closest?.(".find")) found.replaceChildren();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    document.getElementById("found")?.replaceChildren();
  }
  const typing = event.target.closest?.("input, textarea, select, [contenteditable], .terminal");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.getElementById("find")?.focus();
  }
});

// Lists that filter as soon as something is chosen; without scripts there is a button.
document.addEventListener("change", (event) => {
  const form = event.target.closest?.("form[data-at-once]");
  if (form) form.requestSubmit();
  const all = event.target.closest?.("input[data-all]");
  if (all) {
    for (const box of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) {
      box.checked = all.checked;
    }
  }
});

// What was refused is told until the form is changed; meanwhile it need not be told twice.
document.addEventListener("input", (event) => {
  const said = event.target.closest?.("form.do")?.querySelector(":scope > .said");
  if (said?.querySelector(".bad")) said.replaceChildren();
});

// What htmx was answered: a sign-in that is over, or a server that does not answer, is one message.
document.addEventListener("htmx:beforeSwap", (event) => {
  const answer = event.detail.xhr;
  if (answer.status === 401 || new URL(answer.responseURL).pathname === "/login") {
    event.detail.shouldSwap = false;
    dialog?.close();
    say(words.out, words.inAgain, signInAddress());
  } else if (answer.status >= 400) {
    event.detail.shouldSwap = true;
  }
});
document.addEventListener("htmx:sendError", () => {
  say(`${words.lost} ${answeredAt.toLocaleTimeString()}`);
});

// A message about what was done is said once.
const here = new URL(location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
}

// A page that waited for a router leads there once it answers; pressing "back" does not loop.
function go() {
  const link = main?.querySelector("a[data-go]");
  if (!link || !here.searchParams.has("go")) return;
  here.searchParams.delete("go");
  history.replaceState(null, "", here);
  location.assign(link.href);
}
document.addEventListener("refreshed", go);
go();
