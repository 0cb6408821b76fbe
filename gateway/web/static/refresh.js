// Asks for the changing part of the page every two seconds and changes only what differs,
// so that focus, selection and scrolling stay where they are.

const INTERVAL_MS = 2000;
const main = document.querySelector("main[data-refresh]");
const lost = document.getElementById("lost");
let answeredAt = new Date();

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
}

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function become(present, wanted) {
  if (present.nodeType !== Node.ELEMENT_NODE) {
    if (present.nodeValue !== wanted.nodeValue) present.nodeValue = wanted.nodeValue;
    return;
  }
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
      present.insertBefore(next, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

async function refresh() {
  try {
    const answer = await fetch(main.dataset.refresh, {
      headers: { Accept: "text/html" },
      signal: AbortSignal.timeout(10000),
    });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    becomeChildren(main, page.body);
    answeredAt = new Date();
    lost.hidden = true;
  } catch {
    lost.querySelector("time").textContent = answeredAt.toLocaleTimeString();
    lost.hidden = false;
  }
}

async function forever() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    if (document.visibilityState === "visible") await refresh();
  }
}

forever();
