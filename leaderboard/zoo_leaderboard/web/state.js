"use strict";
// What is chosen on the page stands in its address, so that a link shows the same: #run=dpo, #sort=Gold&order=ascending.

const state = new URLSearchParams(location.hash.slice(1));

function remember(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (known(value) && value !== "") state.set(name, value);
    else state.delete(name);
  }
  history.replaceState(null, "", `#${state}`);
}

// A link to a run, or to a part of the page, keeps what else was chosen. An address that chooses otherwise is shown anew.
window.addEventListener("hashchange", () => {
  const wanted = new URLSearchParams(location.hash.slice(1)), run = wanted.get("run");
  if (!location.hash.includes("=")) {
    if (state.size) remember({});
    return;
  }
  const others = (choices) => String(new URLSearchParams([...choices].filter(([name]) => name !== "run").sort()));
  if (others(wanted) && others(wanted) !== others(state)) return location.reload();
  remember({ run });
  if (run !== null) openRun(run);
});

// Where the address has that run already, no address changes.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.run");
  if (link?.hash === location.hash) openRun(state.get("run"));
});
