"""A run that was killed anywhere ends in the same bits as one that was not; what cannot work is refused in words."""

import os
import random
import subprocess
import sys
import textwrap
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from zoo_core.accounting.budget import BudgetWindow
from zoo_core.errors import BudgetError, PluginError, StorageError
from zoo_core.models.lora import add_adapter
from zoo_core.reward import Sample
from zoo_core.rollout import response_logprobs
from zoo_core.run import Run
from zoo_core.session import checkpoint, loop
from zoo_core.session.seeds import derive
from zoo_core.session.session import Session
from zoo_core.testing.tiny import tiny_policy, tiny_run, tiny_session
from zoo_core.testing.witness import repeatable, same_weights, weights


def step(stage, optimizer, parameters, update, noise):
    """Make one step of imitation through dropout, on demonstrations."""
    batch = stage.demonstrations.batch(update, 4)
    logprobs = nn.functional.dropout(response_logprobs(stage.policy, batch), 0.2)
    loss = -(logprobs * batch.mask).sum() + noise * sum(weight.sum() for weight in parameters)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def three_stages(run):
    """Use everything a plugin may use: three stages, every global generator, and things kept late and in every form."""
    first = run.stage("first", share=0.3)
    optimizer = first.keep("optimizer", AdamW(first.policy.parameters(), lr=1e-3))
    schedule = first.keep("schedule", LambdaLR(optimizer, lambda count: 1.0 / (1 + count)))
    head = None
    for update in first.updates():
        if head is None:
            with torch.random.fork_rng():
                head = first.keep("head", nn.Linear(2, 2))  # random, kept only inside the loop
        loss = step(first, optimizer, head.parameters(), update, 1e-3 * (random.random() + np.random.rand()))
        schedule.step()
        with torch.no_grad():
            head.weight += torch.rand(2, 2)
        yield {"loss": loss, "head": head.weight.sum().item(), "progress": first.progress}

    between = torch.randn(3)  # drawn between two stages, from the global generator

    second = run.stage("second", share=0.4)
    reference = second.reference()
    state = second.keep("state", {"scale": 1.0, "seen": [], "mean": torch.zeros(3)})
    texts = second.keep("texts", [])
    for _ in second.updates():
        rollout = second.sample(second.prompts.batch(len(texts), 3))
        texts.append([sample.response for sample in rollout.samples])
        state["scale"] *= 1.1
        state["mean"] = state["mean"] + between
        with torch.no_grad():
            drift = response_logprobs(reference, rollout)[rollout.mask].sum().item()
        yield {"scale": state["scale"], "mean": state["mean"].sum().item(), "drift": drift}

    third = run.stage("third")
    adapted = get_peft_model(third.policy, LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]))
    adapted.train()
    parameters = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = third.keep("optimizer", AdamW(parameters, lr=1e-2))
    for update in third.updates():
        scale = state["scale"] * len(texts)
        yield {"loss": step(third, optimizer, parameters, update, 1e-3 * scale)}


# peft asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SIGNALS = ("demonstrations", "prompts")
BUDGET = 5e7


@pytest.fixture(scope="module")
def undisturbed():
    session = tiny_session(SIGNALS, budget=BUDGET)
    history = list(three_stages(Run(session)))
    return session, history


def resumed_from(directory):
    session = tiny_session(SIGNALS, budget=BUDGET, directory=directory)
    return session, list(three_stages(Run(session)))


def test_the_toy_has_several_updates_in_each_of_its_stages(undisturbed):
    kinds = [tuple(metrics) for metrics in undisturbed[1]]
    assert [kinds.count(kind) >= 2 for kind in dict.fromkeys(kinds)] == [True, True, True]
    assert len(kinds) <= 20
    assert undisturbed[0].ledger.report()["audit_ratio"] == pytest.approx(
        1.0, abs=1e-9
    )  # LoRA's layers are metered, too


def test_killed_after_any_update_of_any_stage_it_ends_in_the_same_bits(undisturbed, tmp_path):
    session, history = undisturbed
    for seen in range(1, len(history) + 1):
        directory = tmp_path / str(seen)
        killed = three_stages(Run(tiny_session(SIGNALS, budget=BUDGET, directory=directory)))
        assert list(islice(killed, seen)) == history[:seen]
        killed.close()
        again, rest = resumed_from(directory)
        assert rest == history[-len(rest) :], f"killed after {seen}"
        assert len(rest) in (len(history) - seen, len(history) - seen + 1)
        assert same_weights(again.policy, weights(session.policy)), f"killed after {seen}"
        assert repeatable(again) == repeatable(session), f"killed after {seen}"


def test_a_session_knows_the_stage_of_an_update_and_the_number_of_those_before_it_also_when_resumed(tmp_path):
    def places(session):
        return [(session.stage, session.ledger.updates, metrics) for metrics in three_stages(Run(session))]

    whole = places(tiny_session(SIGNALS, budget=BUDGET))
    assert list(dict.fromkeys(stage for stage, _, _ in whole)) == ["first", "second", "third"]
    for (stage, number, _), (later, following, _) in pairwise(whole):
        # The last update of a stage may be undone; then the first of the next has its number.
        assert following - number in ((1,) if stage == later else (0, 1))

    killed = three_stages(Run(tiny_session(SIGNALS, budget=BUDGET, directory=tmp_path)))
    assert len(list(islice(killed, len(whole) // 2))) == len(whole) // 2
    killed.close()
    rest = places(tiny_session(SIGNALS, budget=BUDGET, directory=tmp_path))
    assert 0 < len(rest) < len(whole)
    assert rest == whole[-len(rest) :]


def test_state_that_is_claimed_late_survives_checkpoints_taken_before_it_is(tmp_path):
    def late(run):
        odd = None
        for update in run.updates(7):
            if update % 2:
                odd = run.keep("odd", []) if odd is None else odd
                odd.append(update)
            yield {"odd": sum(odd or [])}

    # Killed in the second update each time: at every other checkpoint nobody has asked for the list yet.
    for _ in range(6):
        killed = late(tiny_run(signals=(), directory=tmp_path))
        assert len(list(islice(killed, 2))) == 2
        killed.close()
    assert len(list(late(tiny_run(signals=(), directory=tmp_path)))) == 1
    assert checkpoint.load(tmp_path / "end-run.safetensors")["kept"]["odd"] == [1, 3, 5]


def test_killed_by_the_system_in_another_process_it_resumes_here(undisturbed, tmp_path):
    code = f"""
        import importlib.util, os, pathlib, sys
        spec = importlib.util.spec_from_file_location("toy", {__file__!r})
        toy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(toy)
        session = toy.tiny_session(toy.SIGNALS, budget=toy.BUDGET, directory=pathlib.Path(sys.argv[1]))
        for number, _ in enumerate(toy.three_stages(toy.Run(session)), start=1):
            if number == int(sys.argv[2]):
                os._exit(9)
    """
    session, history = undisturbed
    seen = len(history) - 1
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code, tmp_path, str(seen)], check=False, env=os.environ, timeout=200)
    assert done.returncode == 9
    again, rest = resumed_from(tmp_path)
    assert rest == history[seen - 1 :]
    assert same_weights(again.policy, weights(session.policy))
    assert repeatable(again) == repeatable(session)


def test_stages_get_their_shares_and_together_never_more_than_all(undisturbed):
    session, history = undisturbed
    cells = session.ledger.meter.cells
    assert session.ledger.flops <= BUDGET
    trained, sampled = (sum(cost for (_, phase), cost in cells.items() if phase == one) for one in ("train", "sample"))
    scored = cells["reference", "score"]
    assert sampled + scored <= 0.4 * BUDGET
    assert trained <= 0.6 * BUDGET + 0.4 * BUDGET - sampled - scored
    assert history[0]["progress"] < history[1]["progress"] <= 1.0


# Small loops


def steps(run, most=None):
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), lr=1e-2))
    for update in run.updates(most):
        yield step(run, optimizer, [], update, 0.0)


def test_a_discarded_update_leaves_weights_optimizer_and_ledger_as_before():
    # The last update is made dear by force: it passes the line by far and must be as if it had never been.
    first = tiny_session(SIGNALS)
    next(steps(Run(first)))
    cost = first.ledger.flops
    session = tiny_session(SIGNALS, budget=5.0 * cost)
    run, states = Run(session), []
    for number, _ in enumerate(steps(run)):
        states.append((weights(session.policy), session.kept["optimizer"].state_dict()["state"], session.ledger.flops))
        if number == 2:
            session.ledger.meter.charge("judge", 4 * cost)
    assert len(states) == 3
    assert session.ledger.updates == 2
    assert session.ledger.optimizer_steps == 2
    assert same_weights(session.policy, states[1][0])
    assert session.ledger.flops == states[1][2]
    assert session.ledger.flags == ["the last update was discarded: it would have passed the budget"]
    assert session.kept["optimizer"].state_dict()["state"][0]["step"] == 2


def test_what_an_update_is_undone_by_has_copies_of_trained_weights_only():
    run = tiny_run()
    trained = {weight.data_ptr() for weight in add_adapter(run.policy, "mine", 2)}
    kept = run._session.undo("", 0, BudgetWindow(0, 1.0))["kept"]["policy"]
    weights = run.policy.state_dict()
    assert {name for name in weights if kept[name].data_ptr() != weights[name].data_ptr()} == {
        name for name, weight in weights.items() if weight.data_ptr() in trained
    }
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_a_checkpoint_of_an_undone_update_is_never_written(tmp_path):
    first = tiny_session(SIGNALS)
    next(steps(Run(first)))
    cost, seen = first.ledger.flops, []
    session = tiny_session(SIGNALS, budget=5.0 * cost, directory=tmp_path)
    session.at_boundary = lambda session: seen.append(session.ledger.flops)
    for number, _ in enumerate(steps(Run(session))):
        if number == 2:
            session.ledger.meter.charge("policy", 4 * cost)
    assert seen == sorted(seen)
    assert len(seen) == 2
    assert max(seen) <= session.budget


def test_what_updates_cost_is_remembered_over_a_kill(tmp_path):
    # 10 + 40 + 10 leave 40, in which 1.1 · 40 does not fit; forgetting the 40 would let a fourth update start.
    def charging(directory):
        session = tiny_session((), budget=100.0, directory=directory)
        for update in Run(session).updates():
            session.ledger.meter.charge("policy", [10, 40, 10, 10][update])
            yield session.ledger.flops

    assert list(charging(None)) == [10, 50, 60]
    killed = charging(tmp_path)
    assert list(islice(killed, 3)) == [10, 50, 60]
    killed.close()
    assert list(charging(tmp_path)) == [60]


def test_a_budget_too_small_for_an_update_names_the_stage_and_the_cost():
    run = tiny_run(signals=SIGNALS, budget=1e4)
    with pytest.raises(BudgetError, match=r"too small for one update of stage 'only': 1e\+04 FLOPs are left"):
        list(steps(run.stage("only")))


def test_progress_goes_from_zero_to_one_with_the_budget_or_with_the_count():
    run, seen = tiny_run(signals=SIGNALS, budget=2e7), []
    for _ in steps(run):
        seen.append(run.progress)
    assert seen == sorted(seen)
    assert 0.0 < seen[0] < 0.5
    assert seen[-1] > 0.8
    counted, seen = tiny_run(signals=SIGNALS), []
    for _ in counted.updates(4):
        seen.append(counted.progress)
    assert seen == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=1e-6)


def test_the_update_is_that_of_the_stages_own_loop():
    run = tiny_run()
    stage = run.stage("rl")
    assert (run.update, stage.update) == (-1, -1)
    assert [stage.update for _ in stage.updates(3)] == [0, 1, 2]
    assert (run.update, stage.update) == (-1, 2)


def test_a_recipe_without_budget_must_say_how_long_it_is():
    with pytest.raises(PluginError, match="must bound its updates"):
        next(steps(tiny_run(signals=SIGNALS, budget=float("inf"))))
    assert len(list(steps(tiny_run(signals=SIGNALS, budget=float("inf")), most=3))) == 3


def test_a_reference_that_moved_is_flagged_and_one_that_did_not_is_not():
    session = tiny_session(["demonstrations"])
    run = Run(session)
    still, moved = run.reference(), run.reference()
    session.flag_moved_references()
    assert session.ledger.flags == []
    with torch.no_grad():
        next(moved.parameters())[0, 0] += 1e-3
    session.flag_moved_references()
    assert session.ledger.flags == ["reference moved"]
    assert still is not moved


def test_a_reference_is_the_policy_at_its_stages_start_and_is_refused_inside_the_loop():
    run = tiny_run(signals=SIGNALS)
    one = run.stage("one")
    before = weights(run.policy)
    list(steps(one, most=2))
    later = run.stage("two").reference()
    assert same_weights(later, weights(run.policy))
    assert not same_weights(later, before)
    assert not any(weight.requires_grad for weight in later.parameters())
    assert all(weight.requires_grad for weight in run.policy.parameters())
    two = run.stage("three")
    for _ in two.updates(1):
        with pytest.raises(PluginError, match="before the loop"):
            two.reference()


def test_a_name_can_be_kept_once_in_a_stage_and_again_in_another():
    run = tiny_run(signals=())
    run.keep("list", [])
    with pytest.raises(PluginError, match="already kept under 'list'"):
        run.keep("list", [])
    assert run.stage("rl").keep("list", [1]) == [1]


def test_the_policy_is_kept_without_being_asked_for():
    with pytest.raises(PluginError, match="already kept under 'policy'"):
        tiny_run(signals=()).keep("policy", nn.Linear(1, 1))


def test_a_loop_can_be_entered_once():
    run = tiny_run(signals=())
    list(run.updates(1))
    with pytest.raises(PluginError, match="entered once"):
        next(run.updates(1))


def test_what_cannot_be_restored_says_so(tmp_path):
    def train(run):
        run.keep("counter", iter([]))
        yield from run.updates(2)

    with pytest.raises(Exception, match="cannot be kept; keep numbers"):
        list(train(tiny_run(signals=(), directory=tmp_path)))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda kept: kept.pop("weight"), "weight"),
        (lambda kept: kept.update(more=torch.zeros(1)), "more"),
        (lambda kept: kept.update(weight=torch.zeros(3, 2)), "weight.*(3, 2)|weight.*3, 2"),
    ],
    ids=["missing", "left over", "misshapen"],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_weights_names(tmp_path, spoil, named):
    session = tiny_session(directory=tmp_path)
    session.checkpoint_seconds = 0
    run = Run(session)
    run.keep("head", nn.Linear(2, 2))
    next(islice(run.updates(), 1, None))
    file = session.path("now")
    state = checkpoint.load(file)
    spoil(state["kept"]["head"])
    checkpoint.save(file, state)
    again = Run(tiny_session(directory=tmp_path))
    again.keep("head", nn.Linear(2, 2))
    with pytest.raises(StorageError, match=rf"what this run keeps under 'head': .*({named}).*the same command"):
        next(again.updates())


def test_every_generator_is_seeded_by_seed_stage_and_update():
    def draws(seed, stage):
        run = tiny_run(signals=(), seed=seed).stage(stage)
        return [(random.random(), float(np.random.rand()), torch.rand(()).item()) for _ in run.updates(2)]

    first = draws(0, "a")
    assert draws(0, "a") == first
    assert len({*first, *draws(1, "a"), *draws(0, "b")}) == 6


def test_own_generators_depend_on_update_and_purpose_only():
    run = tiny_run(signals=())
    numbers = {(u, p): torch.rand((), generator=run.rng(u, p)).item() for u in (0, 1) for p in ("x", "y")}
    assert len(set(numbers.values())) == 4
    torch.rand(100)
    assert torch.rand((), generator=run.rng(1, "y")).item() == numbers[1, "y"]


def test_passes_over_collected_rows_hold_each_once_and_differ_in_order():
    run, rows = tiny_run(), list("abcdefghij")
    batches = [run.batch_of(rows, update, 4) for update in range(6)]
    passes = [[row for batch in batches[first : first + 3] for row in batch] for first in (0, 3)]
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    assert [sorted(one) for one in passes] == [rows] * 2
    assert passes[0] != passes[1]
    assert run.batch_of(rows, 4, 4) == batches[4]


def test_seeds_are_told_apart_by_where_one_word_ends():
    assert derive("ab", "c") != derive("a", "bc")
    assert derive(0, "", 1) == derive(0, "", 1)
    assert 0 <= derive("x") < 2**63


def test_rewards_arrive_in_units_of_the_start():
    session = tiny_session(("reward",))
    session.calibration = type(session.calibration)(mean=0.5, deviation=0.25)
    samples = [Sample("hi", text, True) for text in ("aa", "ab", "bb")]
    session.reward = lambda samples: [sample.response.count("a") / 2 for sample in samples]
    assert Run(session).reward(samples).tolist() == [2.0, 0.0, -2.0]
    assert session.ledger.reward_queries == 3


def test_steps_samples_and_rows_are_counted():
    session = tiny_session(SIGNALS)
    run = Run(session)
    list(steps(run, most=2))
    rollout = run.sample(run.prompts.batch(0, 5))
    report = session.ledger.report()
    assert (report["optimizer_steps"], report["updates"]) == (2, 2)
    assert report["generated_tokens"] == int(rollout.mask.sum())
    assert (len(report["rows"]["demonstrations"]), len(report["rows"]["prompts"])) == (8, 5)
    assert report["wall_seconds"] > 0
    assert report["peak_memory_bytes"] > 1e6
    assert report["models_resident"] == 1


def test_a_session_without_a_directory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(steps(tiny_run(signals=SIGNALS), most=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("every", "taken"), [(0.0, 40), (1.0, 10), (3.0, 10)])
def test_checkpoints_take_a_small_share_of_the_time_unless_each_update_wants_one(tmp_path, monkeypatch, every, taken):
    clock, saved = [0.0], []

    def slow(path, state, still):
        clock[0] += 0.08  # 2 % of 4 seconds
        saved.append(path)

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop.checkpoint, "save", slow)
    session = tiny_session(SIGNALS, directory=tmp_path, policy=tiny_policy())
    session.checkpoint_seconds = every
    for _ in Run(session).updates(most=40):
        clock[0] += 1.0
    between = [path for path in saved if path.name == "now.safetensors"]
    assert len(between) == pytest.approx(taken, abs=1)


def test_the_first_checkpoint_waits_for_the_time_that_its_bytes_will_take(tmp_path, monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop.checkpoint, "save", lambda path, *_: saved.append((path.name, clock[0])))
    session = tiny_session(SIGNALS, directory=tmp_path, policy=tiny_policy())
    session.checkpoint_seconds = 1.0
    weights = sum(weight.nbytes for weight in session.policy.parameters())
    monkeypatch.setattr(loop, "WRITTEN", weights / 0.1)  # 2 % of 5 seconds
    for _ in Run(session).updates(most=12):
        clock[0] += 1.0
    # It took no time, so that the next ones are taken when they are asked for.
    assert [at for name, at in saved if name == "now.safetensors"] == [5, 6, 7, 8, 9, 10, 11, 12]


def test_checkpoints_are_taken_by_the_clock(tmp_path):
    session = tiny_session(SIGNALS, directory=tmp_path, policy=tiny_policy())
    session.checkpoint_seconds = 1e9
    training = steps(Run(session), most=3)
    assert len(list(islice(training, 2))) == 2
    assert not (tmp_path / "now.safetensors").exists()
    list(training)
    assert [path.name for path in tmp_path.iterdir()] == ["end-run.safetensors"]


def test_a_stage_with_a_slash_in_its_name_has_a_checkpoint_of_its_own(tmp_path):
    session: Session = tiny_session(SIGNALS, directory=tmp_path)
    inner = Run(session).stage("rl").stage("warm-up")
    list(steps(inner, most=1))
    assert (tmp_path / "end-rl" / "warm-up.safetensors").exists()
