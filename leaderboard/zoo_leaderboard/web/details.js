"use strict";
// Everything about one row, and the answers that can be read side by side.

const SCORES = {
  headline: "Headline", gold: "Gold", gold_delta_start: "Gold − start", gold_delta_sft: "Gold − sft", proxy: "Proxy",
  kl_start: "KL to start, nats a response", win_start: "Win rate against start", length: "Length, tokens", ended: "Share that ended",
  distinct: "Distinct n-grams", capability: "Capability, chance at 0", capability_delta_start: "Capability − start",
};

function pairs(title, entries) {
  const lines = entries.filter(([, value]) => known(value) && value !== NONE && value !== "");
  if (lines.length === 0) return null;
  return el("div", {}, el("h3", {}, title), ...lines.map(([name, value]) => el("div", { class: "pair" }, el("span", {}, name), el("span", {}, value))));
}

const words = (value) => typeof value === "string" ? value : JSON.stringify(value);

function details() {
  return section("Row by row", "Means over seeds with 95 % intervals.", ...board.rows.map((row, index) => detail(row, index)));
}

function detail(row, index) {
  const chips = [...(row.status === "ok" ? [] : [row.status]), ...row.flags].map((text) => el("span", { class: "chip" }, text));
  return el("details", { id: `row-${index}` }, el("summary", {}, row.row, " ", ...chips),
    ...row.errors.map((one) => el("p", { class: "bad" }, `Seed ${one.seed} failed: ${one.error}`)),
    el("div", { class: "columns" },
      pairs("What it is", about(row)),
      pairs("Scores", [...new Set([...Object.keys(SCORES), ...board.scores])].filter((name) => name !== "flops_per_query").map((name) => [SCORES[name] ?? name, interval(row[name], 3)])),
      pairs("Tasks", Object.entries(row.tasks).flatMap(([name, task]) => [
        [known(task.chance) ? `${name} (chance ${number(task.chance)})` : name, interval(task, 3)], [`${name} − start`, interval(task.delta_start, 3, true)]])),
      pairs("Parts of gold", Object.entries(row.parts).map(([name, part]) => [name, interval(part, 3)])),
      pairs("Gold by temperature", Object.entries(row.by_temperature).map(([tau, scores]) => [`τ = ${tau}`, scores.gold ? interval(scores.gold, 3) : NONE])),
      pairs("Seeds", row.by_seed.map((seed, i) => [`Seed ${seed.seed}`, seedLine(row, seed, i)])),
      pairs("Stages", row.stages.map((stage) => [stage.name, `${short(stage.flops)} FLOPs, ${percent(stage.share)} of the budget`])),
      pairs("Compute", Object.entries(row.flops_by_role_phase).map(([part, flops]) => [part, `${short(flops)} FLOPs`])),
      pairs("Counts", counts(row)),
      pairs("Settings", Object.entries(row.settings ?? {}).map(([name, value]) => [name, words(value)]))));
}

function about(row) {
  return [
    ["Algorithm", row.algorithm], ["Plugin", row.plugin ? `${row.plugin} ${row.plugin_version ?? ""}` : null], ["Paper", paperLink(row.paper)],
    ["Learns from", (row.learns_from ?? []).join(", ")], ["Reward", row.reward], ["May stop early", row.stops_early], ["Starts from", row.starts_from], ["Settings are", row.tuning],
    ["Charged / counted compute", number(row.audit_ratio, 4)], ["Worst case of the headline", number(row.headline_worst_case, 3)],
  ];
}

function bytes(count) {
  return known(count) ? `${short(count)}B` : NONE;
}

function counts(row) {
  return [
    ["Optimizer steps", short(row.optimizer_steps)], ["Updates", short(row.updates)], ["Tokens sampled", short(row.generated_tokens)],
    ["Reward queries", short(row.reward_queries)], ["Judge calls", short(row.judge_calls)], ["Models resident", number(row.models_resident, 1)],
    ["Weights in memory", bytes(row.parameter_bytes)], ["Weights, gradients, optimizer", bytes(row.training_bytes)],
    ["FLOPs an answer", short(row.flops_per_query.mean)],
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

function samples() {
  const rows = board.rows.filter((row) => row.samples.length);
  if (rows.length === 0) return null;
  const prompts = [...new Set(rows.flatMap((row) => row.samples.map((item) => item.prompt)))];
  const select = el("select", { id: "prompt", "aria-label": "Prompt" }, ...prompts.map((prompt, index) => el("option", { value: index }, `${index + 1}. ${prompt.slice(0, 90)}`)));
  const shown = el("div");
  const show = () => shown.replaceChildren(el("div", { class: "prompt" }, prompts[select.value]), el("div", { class: "answers" }, ...answers(rows, prompts[select.value])));
  select.addEventListener("change", show);
  select.value = 0;
  show();
  return section("Sample answers", "Of each row's first finished seed, at its best temperature.", select, shown);
}

function answers(rows, prompt) {
  return rows.flatMap((row) => row.samples.filter((item) => item.prompt === prompt).map((item) => el("div", { class: "answer" },
    el("header", {}, el("strong", {}, row.row), el("span", { class: "soft" }, `gold ${number(item.gold)} · proxy ${number(item.proxy)}`)),
    el("p", {}, item.response || "(empty)"))));
}
