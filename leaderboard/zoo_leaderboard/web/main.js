"use strict";

enhanceTable();
const sections = [budgets(), frontier(), anytime(), costs(), pairMatrix(), equalDivergence(), taskMap(), pairSection(), runs()].filter(known);
document.getElementById("more").replaceChildren(...sections);
document.getElementById("contents").replaceChildren(
  ...[["table-title", "The board"], ...sections.map((one) => [one.id, one.querySelector("h2").textContent])].map(([id, title]) => jump(id, title)));
if (state.get("run") !== null) openRun(state.get("run"));

// Links within the page scroll, and leave the address to what is chosen.
function jump(id, title) {
  const link = el("a", { href: `#${id}` }, title);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById(id).scrollIntoView();
  });
  return link;
}
