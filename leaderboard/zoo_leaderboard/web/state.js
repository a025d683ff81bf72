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

// A click on a link to a run changes the address and keeps what else was chosen.
window.addEventListener("hashchange", () => {
  const run = new URLSearchParams(location.hash.slice(1)).get("run");
  if (run !== null) {
    remember({ run });
    openRun(run);
  }
});
