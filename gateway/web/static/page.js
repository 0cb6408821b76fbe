// What every page does: keeps itself fresh, opens dialogs, says when the server or the sign-in is
// gone. Without it pages work all the same, one by one.

const main = document.getElementById("content");
const lost = document.getElementById("lost");
const words = document.getElementById("words")?.dataset ?? {};
const REFRESH_S = 30; // ages grow though nothing happens
const SETTLE_MS = 700; // several events make one refresh
const AT_MOST_EVERY_MS = 2000;

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

function isOver(answer, page) {
  if (answer.status === 401 || (answer.redirected && new URL(answer.url).pathname === "/login")) {
    say(words.out, words.inAgain, signInAddress());
    over = true;
  } else if (page && page.dataset.version !== main.dataset.version) {
    say(words.new, words.reload, location.href);
    over = true;
  }
  return over;
}

// Changes only what differs, so that focus, selection and scrolling stay where they are.

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
}

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.getAttribute("data-key") : null;
}

function kept(node) {
  return (
    node.nodeType === Node.ELEMENT_NODE &&
    (node.hasAttribute("data-keep") || node.matches("form.do, [open], :focus"))
  );
}

function become(present, wanted) {
  if (present.nodeType !== Node.ELEMENT_NODE) {
    if (present.nodeValue !== wanted.nodeValue) present.nodeValue = wanted.nodeValue;
    return;
  }
  if (kept(present)) return;
  for (const { name } of [...present.attributes]) {
    if (!wanted.hasAttribute(name)) present.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) present.setAttribute(name, value);
  }
  becomeChildren(present, wanted);
}

function becomeChildren(present, wanted) {
  let at = present.firstChild;
  for (const next of [...wanted.childNodes]) {
    if (at && sameKind(at, next)) {
      become(at, next);
      at = at.nextSibling;
    } else {
      const fresh = document.importNode(next, true);
      present.insertBefore(fresh, at);
      window.htmx?.process(fresh);
    }
  }
  while (at) {
    const after = at.nextSibling;
    if (!kept(at)) at.remove();
    at = after;
  }
}

// Freshness: events of the server say when; `data-live` names the kinds, `data-refresh` seconds.

let source = null;
let due = null;
let refreshedAt = Date.now();
let answeredAt = new Date();

async function refresh() {
  due = null;
  if (over || document.visibilityState !== "visible") return;
  if (main.querySelector(".selecting input:checked")) return; // rows are being chosen
  refreshedAt = Date.now();
  try {
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html", "X-Refresh": "true" },
      signal: AbortSignal.timeout(10000),
    });
    if (isOver(answer)) return;
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("content");
    if (!fresh || isOver(answer, fresh)) return;
    becomeChildren(main, fresh);
    if (fresh.dataset.live) main.dataset.live = fresh.dataset.live; // goes on from here
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

// Dialogs: a page of its own whose `.dialog-body` is shown in front of this one.

const dialog = document.getElementById("dialog");

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
  dialog.replaceChildren(close, document.importNode(body, true));
  const title = dialog.querySelector("h1, h2");
  if (title) title.id = "dialog-title";
  for (const input of dialog.querySelectorAll('input[name="then"]')) {
    if (input.value === new URL(href, location.href).pathname + new URL(href, location.href).search) {
      input.value = location.pathname + location.search;
    }
  }
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
