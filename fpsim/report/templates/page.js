"use strict";
// Tables sort by a click on a head: numbers by data-value, else words.
for (const head of document.querySelectorAll("table.sort thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const column = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value;
      return value === undefined ? cell.textContent.trim() : value === "" ? NaN : Number(value);
    };
    const order = (x, y) => {
      if (typeof x === "string" || typeof y === "string")
        return String(x).localeCompare(String(y), "en", { numeric: true });
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return x < y ? -1 : x > y ? 1 : 0;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([x], [y]) => {
      const missing = Number.isNaN(x) || Number.isNaN(y); // what is not there stays last
      return down && !missing ? -order(x, y) : order(x, y);
    });
    body.append(...rows.map(([, row]) => row));
  });
}
// Marks say their words where the pointer or the focus is.
const words = document.getElementById("words");
const show = (mark, x, y) => {
  words.textContent = mark.dataset.words;
  words.hidden = false;
  const box = words.getBoundingClientRect();
  words.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
  words.style.top = (y + box.height + 24 > innerHeight ? y - box.height - 10 : y + 16) + "px";
};
const markOf = (event) => event.target.closest && event.target.closest("[data-words]");
document.addEventListener("pointermove", (event) => {
  const mark = markOf(event);
  if (mark) show(mark, event.clientX, event.clientY);
  else words.hidden = true;
});
document.addEventListener("focusin", (event) => {
  const mark = markOf(event);
  if (!mark) { words.hidden = true; return; }
  const box = mark.getBoundingClientRect();
  show(mark, box.left + box.width / 2, box.bottom);
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") words.hidden = true; });
document.addEventListener("scroll", () => { words.hidden = true; }, true);
// A link to a folded unit unfolds it.
const unfold = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", unfold);
unfold();
