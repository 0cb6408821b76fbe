// The fleet: what is done to the devices that are ticked opens as a dialog. Without this file the
// form sends the same to a page of its own.

const ADDRESS_MAX = 6000; // of more devices than fit into an address, the form tells itself

function ticked() {
  return [...document.querySelectorAll('#act input[name="serials"]:checked')].map((box) => box.value);
}

function count() {
  const number = ticked().length;
  for (const place of document.querySelectorAll("[data-ticked]")) {
    place.textContent = number ? `(${number})` : "";
  }
  for (const all of document.querySelectorAll('input[data-all="serials"]')) {
    const boxes = document.querySelectorAll('#act input[name="serials"]').length;
    all.checked = number > 0 && number === boxes;
    all.indeterminate = number > 0 && number < boxes;
  }
}

document.addEventListener("change", count);
document.addEventListener("refreshed", count);
document.addEventListener("htmx:afterSettle", count);
count();

document.addEventListener("submit", (event) => {
  const form = event.target.closest?.("form[data-act]");
  const action = event.submitter?.value;
  if (!form || !action) return;
  const serials = ticked();
  if (!serials.length) {
    event.preventDefault();
    document.getElementById("doing").open = false;
    form.querySelector('input[type="checkbox"]')?.focus();
    return;
  }
  const asked = new URLSearchParams({ action, serials: serials.join(","), next: form.elements.next.value });
  const href = `${form.getAttribute("action")}?${asked}`;
  if (href.length > ADDRESS_MAX || !window.htmx) return;
  event.preventDefault();
  document.getElementById("doing").open = false;
  const link = document.createElement("a");
  link.href = href;
  link.dataset.dialog = "";
  form.append(link);
  link.click(); // opens it as any other dialog
  link.remove();
});
