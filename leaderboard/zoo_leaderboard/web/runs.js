"use strict";
// Everything about one row: configuration, scores, stages, hashes, the command, and its answers beside those of start.

const SCORES = {
  headline: "Headline", gold: "Gold", gold_delta_start: "Gold − start", gold_delta_sft: "Gold − sft", gain_at_equal_length: "Gold − start, at equal length",
  proxy: "Proxy", kl_start: "KL to start, nats a response", win_start: "Win rate against start", length: "Length, tokens", ended: "Share that ended",
  distinct: "Distinct word pairs", identical: "Share of the most frequent answer", capability: "Capability, chance at 0", capability_delta_start: "Capability − start",
};

function runs() {
  return section("runs", "Run by run", "Means over seeds with 95 % intervals. Open one for its settings, hashes, answers and the command that runs it again.",
    ...board.rows.map((row) => {
      const node = el("details", { class: "one-run" }, el("summary", {}, row.row, " ", ...chips(row)));
      node.dataset.run = row.row;
      node.addEventListener("toggle", () => {
        if (node.open) fill(node, row);
        else if (state.get("run") === row.row) remember({ run: null });
      });
      return node;
    }));
}

const chips = (row) => [...(row.status === "ok" ? [] : [row.status]), ...row.flags].map((text) => el("span", { class: "chip" }, text));

// What is closed is not built: with twenty rows and ten seeds that would be most of the page.
function fill(node, row) {
  remember({ run: row.row });
  if (node.childElementCount > 1) return;
  node.append(
    ...row.errors.map((one) => el("p", { class: "bad" }, `Seed ${one.seed} failed: ${one.error}`)),
    el("div", { class: "columns" }, ...facts(row).filter(known)),
    ...again(row), ...ownAnswers(row));
}

function openRun(name) {
  const node = [...document.querySelectorAll("details.one-run")].find((one) => one.dataset.run === name);
  if (!node) return;
  node.open = true;
  node.scrollIntoView();
  node.querySelector("summary").focus({ preventScroll: true });
}

function facts(row) {
  return [
    listed("What it is", about(row)),
    listed("Scores", [...new Set([...Object.keys(SCORES), ...board.scores])].filter((name) => name !== "flops_per_query" && row[name]).map((name) => [SCORES[name] ?? name, interval(row[name], 3)])),
    listed("Tasks", Object.entries(row.tasks).flatMap(([name, task]) => [
      [known(task.chance) ? `${name} (chance ${number(task.chance)})` : name, interval(task, 3)], [`${name} − start`, interval(task.delta_start, 3, true)]])),
    listed("Parts of gold", Object.entries(row.parts).map(([name, part]) => [name, interval(part, 3)])),
    listed("Gold by temperature", Object.entries(row.by_temperature).sort(([a], [b]) => a - b).map(([tau, scores]) => [`τ = ${tau}`, scores.gold ? interval(scores.gold, 3) : NONE])),
    listed("Seeds", row.by_seed.map((seed, index) => [`Seed ${seed.seed}`, seedLine(row, seed, index)])),
    listed("Stages", row.stages.map((stage) => [stage.name, `${short(stage.flops)} FLOPs, ${percent(stage.share)} of the budget`])),
    listed("Compute", Object.entries(row.flops_by_role_phase).map(([part, flops]) => [part, `${short(flops)} FLOPs`])),
    listed("Counts", counts(row)),
    row.trials ? listed("Settings that each seed chose", row.by_seed.map((seed) => [`Seed ${seed.seed}`, Object.entries(seed.settings ?? {}).map(([name, value]) => `${name} ${words(value)}`).join(", ")])) : null,
    listed(row.trials ? "Settings of all seeds" : "Settings", settingsOf(row)),
  ];
}

// All settings, those first that somebody set; a board of before they were recorded has these alone.
function settingsOf(row) {
  const set = row.settings ?? {}, rest = Object.entries(row.all_settings ?? {}).filter(([name]) => !(name in set));
  const whose = row.tuning && known(row.all_settings) ? ` (${row.tuning})` : "";
  return [...Object.entries(set).map(([name, value]) => [name, `${words(value)}${whose}`]), ...rest.map(([name, value]) => [name, words(value)])];
}

function listed(title, entries) {
  const lines = entries.filter(([, value]) => known(value) && value !== NONE && value !== "");
  if (lines.length === 0) return null;
  return el("div", {}, el("h3", {}, title), el("dl", {}, ...lines.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
}

function about(row) {
  return [
    ["Algorithm", row.algorithm], ["Plugin", row.plugin ? `${row.plugin} ${row.plugin_version ?? ""}` : null], ["Paper", paperLink(row.paper)],
    ["Learns from", (row.learns_from ?? []).join(", ")], ["Reward", row.reward], ["May stop early", row.stops_early], ["Starts from", row.starts_from], ["Settings are", row.tuning],
    ["Trials that were charged", row.trials], ["Laws of the suite that hold", row.checked ? `${row.checked.held} of ${row.checked.tried}` : null],
    ["Charged / counted compute", number(row.audit_ratio, 4)], ["Worst case of the headline", number(row.headline_worst_case, 3)],
  ];
}

function counts(row) {
  return [
    ["Optimizer steps", short(row.optimizer_steps)], ["Updates", short(row.updates)], ["Tokens sampled", short(row.generated_tokens)],
    ["Reward queries", short(row.reward_queries)], ["Judge calls", short(row.judge_calls)], ["Models resident", number(row.models_resident, 1)],
    ["Weights in memory", bytes(row.parameter_bytes)], ["Weights, gradients, optimizer", bytes(row.training_bytes)], ["FLOPs an answer", short(row.flops_per_query.mean)],
    ...Object.entries(row.labels).map(([name, count]) => [`Labels: ${name}`, short(count)]),
  ];
}

function seedLine(row, seed, index) {
  const attempts = seed.attempt > 1 ? `, attempt ${seed.attempt}` : "";
  if (seed.status === "failed") return `failed${attempts}`;
  const tau = known(row.temperature[index]) ? `, τ ${row.temperature[index]}` : "";
  const hash = known(row.weights_sha256[index]) ? `, weights ${row.weights_sha256[index].slice(0, 12)}` : "";
  return `headline ${number(seed.headline, 3)}, gold ${number(seed.gold, 3)}${tau}${hash}${attempts}`;
}

function again(row) {
  if (!board.command) return [];
  const alone = row.kind === "algorithm" && row.algorithm === row.row;
  const at = board.commit ? ` At commit ${board.commit}:` : "";
  return [el("h3", {}, "Run it again"), at ? el("p", { class: "soft" }, at) : null, el("p", {}, el("code", {}, alone ? `${board.command} --algorithms ${row.row}` : board.command))].filter(known);
}

function ownAnswers(row) {
  const start = board.rows.find((one) => one.row === "start");
  if (row.samples.length === 0 || !start || start === row) return [];
  return [el("h3", {}, "Answers, beside those of start"), ...row.samples.slice(0, 8).map((item) => {
    const other = start.samples.find((one) => one.prompt === item.prompt), better = other ? verdict(item[scorer], other[scorer]) : "";
    return asked(item.prompt, answer(row.row, item, better === "a"), other ? answer("start", other, better === "b") : null);
  })];
}
