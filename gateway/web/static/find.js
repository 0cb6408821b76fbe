// The search at the top by keyboard: down goes into what was found, Enter opens the only thing.

const field = document.getElementById("find");
const found = document.getElementById("found");

function links() {
  return [...(found?.querySelectorAll("a[data-hit]") ?? [])];
}

field?.addEventListener("keydown", (event) => {
  const hits = links();
  if (event.key === "ArrowDown" && hits.length) {
    event.preventDefault();
    hits[0].focus();
  } else if (event.key === "Enter" && hits.length === 1) {
    // Not what was found for what stood there before.
    if (found.querySelector("[data-typed]")?.dataset.typed !== field.value.trim()) return;
    event.preventDefault();
    location.assign(hits[0].href);
  }
});

found?.addEventListener("keydown", (event) => {
  const hits = links();
  const at = hits.indexOf(document.activeElement);
  if (event.key === "ArrowDown") {
    event.preventDefault();
    hits[Math.min(at + 1, hits.length - 1)]?.focus();
  } else if (event.key === "ArrowUp") {
    event.preventDefault();
    (at > 0 ? hits[at - 1] : field).focus();
  } else if (event.key === "Escape") {
    field.focus();
  }
});
