// Makes a piece of a page like another one, and changes only what differs: what somebody types,
// chose, holds open or stands at stays as it is.

// Two nodes are of a kind where one may become the other: an id or a key tells rows apart, and the
// first class tells a note from other paragraphs.
function kind(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.nodeName;
  const first = [...node.classList].find((name) => !name.startsWith("htmx-")) ?? "";
  return `${node.nodeName} ${key(node) ?? ""} ${first}`;
}

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.getAttribute("data-key") : null;
}

// A form that is filled in stays; a button that does one thing at once only while it does it.
function kept(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return false;
  // Where scripts run, what is for browsers without them is a text, and elsewhere it is a page.
  if (node.hasAttribute("data-keep") || node.nodeName === "NOSCRIPT") return true;
  if (node.matches("input:focus, select:focus, textarea:focus")) return true;
  if (!node.matches("form.do")) return false;
  return (
    !node.classList.contains("inline") ||
    node.classList.contains("htmx-request") ||
    node.contains(document.activeElement) ||
    node.querySelector(".said:not(:empty)") !== null
  );
}

// What is open stays open, and what was closed stays closed; what is in it becomes new.
function theirs(node, name) {
  return name === "open" && node.nodeName === "DETAILS";
}

function becomeAttributes(present, wanted) {
  let asksOtherwise = false;
  const change = (name, value) => {
    if (theirs(present, name)) return;
    if (value === null) present.removeAttribute(name);
    else present.setAttribute(name, value);
    asksOtherwise ||= name.startsWith("hx-");
  };
  for (const { name } of [...present.attributes]) {
    if (!wanted.hasAttribute(name)) change(name, null);
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) change(name, value);
  }
  if (asksOtherwise) window.htmx?.process(present);
}

function become(present, wanted) {
  if (present.nodeType !== Node.ELEMENT_NODE) {
    if (present.nodeValue !== wanted.nodeValue) present.nodeValue = wanted.nodeValue;
  } else if (!kept(present)) {
    becomeAttributes(present, wanted);
    becomeChildren(present, wanted);
  }
}

// A list that somebody made longer stays as long: the rows that come again become new.
function isLonger(present, wanted) {
  return (
    present.nodeType === Node.ELEMENT_NODE &&
    present.hasAttribute("data-grows") &&
    wanted.querySelector(":scope > .more-rows") !== null &&
    present.childElementCount > wanted.childElementCount
  );
}

function becomeRows(present, wanted) {
  const rows = new Map([...present.children].map((row) => [key(row), row]));
  for (const row of wanted.children) {
    if (key(row) && rows.has(key(row))) become(rows.get(key(row)), row);
  }
}

// The node from `at` on that may become `next`. Without a key of its own it is none behind a node
// that is still wanted.
function following(at, next, wanted) {
  const sought = kind(next);
  for (let one = at; one; one = one.nextSibling) {
    if (kind(one) === sought) return one;
    if (next.nodeType !== Node.ELEMENT_NODE) return null;
    if (!key(next) && one.nodeType === Node.ELEMENT_NODE && wanted.has(kind(one))) return null;
  }
  return null;
}

function moved(parent, node, before) {
  // Where the browser can, without losing the focus in it.
  (parent.moveBefore ?? parent.insertBefore).call(parent, node, before);
}

export function becomeChildren(present, wanted) {
  if (isLonger(present, wanted)) {
    becomeRows(present, wanted);
    return;
  }
  const coming = [...wanted.childNodes];
  const kinds = new Set(coming.map(kind));
  let at = present.firstChild;
  for (const next of coming) {
    const same = following(at, next, kinds);
    if (!same) {
      const fresh = document.importNode(next, true);
      present.insertBefore(fresh, at);
      window.htmx?.process(fresh);
      continue;
    }
    while (at !== same && (at.nodeType !== Node.ELEMENT_NODE || !kinds.has(kind(at)))) {
      const after = at.nextSibling;
      if (!kept(at)) at.remove();
      at = after;
    }
    if (at !== same) moved(present, same, at); // those before it come later
    else at = at.nextSibling;
    become(same, next);
  }
  while (at) {
    const after = at.nextSibling;
    if (!kept(at)) at.remove();
    at = after;
  }
}
