"use strict";
// The main table is there already; this makes it sortable within its blocks, filters its rows and copies it.

const NEEDS = {
  "": ["any algorithm", () => true],
  "no-reward": ["without a reward", (row) => row.takes_reward === false],
  "no-pairs": ["without preference labels", (row) => !row.labels.preferences],
  "no-demonstrations": ["without demonstrations", (row) => !row.labels.demonstrations],
  "one-model": ["at most 2 models in memory", (row) => !known(row.models_resident) || row.models_resident <= 2],
};

function enhanceTable() {
  const table = document.getElementById("ranks"), heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = el("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => sortBy(table, index));
    head.replaceChildren(button);
  });
  const sorted = heads.findIndex((head) => head.textContent === state.get("sort"));
  if (sorted >= 0) sortBy(table, sorted, state.get("order"));
  document.getElementById("tools").replaceChildren(...tools(table));
  filter(table);
}

// A second click turns the order; what is unknown stays last either way.
function sortBy(table, index, wanted = null) {
  const heads = [...table.tHead.rows[0].cells], head = heads[index], before = head.getAttribute("aria-sort");
  const turned = before === "ascending" ? "descending" : "ascending";
  const order = ["ascending", "descending"].includes(wanted) ? wanted : before ? turned : head.dataset.first;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const lines = [...body.rows].filter((line) => line.dataset.row !== undefined);
    lines.sort((a, b) => compare(a.cells[index].dataset.value, b.cells[index].dataset.value, sign));
    body.append(...lines);
  }
  remember({ sort: head.textContent, order });
}

function compare(a, b, sign) {
  if (a === "" || b === "") return Number(a === "") - Number(b === "");
  const numbers = [Number(a), Number(b)];
  return sign * (numbers.some(Number.isNaN) ? a.localeCompare(b, "en") : numbers[0] - numbers[1]);
}

function tools(table) {
  const find = el("input", { type: "search", placeholder: "name or plugin" });
  find.value = state.get("find") ?? "";
  find.addEventListener("input", () => { remember({ find: find.value }); filter(table); });
  const needs = chooser("Show", Object.entries(NEEDS).map(([key, [text]]) => [key, text]), NEEDS[state.get("needs")] ? state.get("needs") : "",
    (value) => { remember({ needs: value }); filter(table); });
  const columns = el("button", { type: "button", class: "phone", "aria-pressed": "false" }, "All columns");
  columns.addEventListener("click", () => columns.setAttribute("aria-pressed", String(table.classList.toggle("all"))));
  const said = el("span", { role: "status", class: "soft" });
  const copying = Object.keys(copies).map((name) => {
    const button = el("button", { type: "button" }, name);
    button.addEventListener("click", () => copy(name, said));
    return button;
  });
  return [el("label", {}, "Find ", find), needs, columns, el("span", { class: "copying" }, "Copy as ", ...copying), said];
}

function filter(table) {
  const wanted = (state.get("find") ?? "").toLowerCase(), [, fits] = NEEDS[state.get("needs")] ?? NEEDS[""];
  for (const line of table.querySelectorAll("tr[data-row]")) {
    const row = board.rows.find((one) => one.row === line.dataset.row);
    line.hidden = !(fits(row) && `${row.row} ${row.plugin ?? ""}`.toLowerCase().includes(wanted));
  }
}

// Where a browser gives no clipboard (a page from a file, in some), the text is shown to be copied by hand.
async function copy(name, said) {
  try {
    await navigator.clipboard.writeText(copies[name]);
    said.textContent = `${name} copied.`;
  } catch {
    const text = el("textarea", { rows: "8", readonly: "", "aria-label": name });
    text.value = copies[name];
    said.replaceChildren("Copy this: ", text);
    text.select();
  }
}
