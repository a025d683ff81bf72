"""LIMA passes the suite, trains as the paper says on rows that it can account for, and stops by its rule."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from zoo_lima.config import LIMAConfig
from zoo_lima.dropout import dropout_rates, residual_dropout
from zoo_lima.train import plain, select_curated, train

from zoo_core.errors import DataError, ModelError
from zoo_core.functional import masked_mean
from zoo_core.registry.plugins import plugins
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Demonstration
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_run, tiny_session

SMALL = LIMAConfig(rows=8, kinds=3, batch_size=4)
TOKENS = torch.arange(12).view(2, 6) + 7


class TestLIMA(AlgorithmSuite):
    name = "lima"
    settings = {"rows": 16, "kinds": 3, "batch_size": 8, "dropout": 0.3}

    def test_padding_before_prompts_changes_nothing_and_costs_nothing(self, monkeypatch):
        # With dropout, wider batches draw other random numbers for the same tokens.
        monkeypatch.setattr(type(self), "settings", self.settings | {"dropout": 0.0})
        super().test_padding_before_prompts_changes_nothing_and_costs_nothing()

    def test_micro_batches_and_recomputation_change_no_loss_and_no_gradient(self, monkeypatch):
        # Nor are the random numbers of a batch those of its parts.
        monkeypatch.setattr(type(self), "settings", self.settings | {"dropout": 0.0})
        super().test_micro_batches_and_recomputation_change_no_loss_and_no_gradient()


def said(prompt, answer, where):
    return Demonstration([{"role": "user", "content": prompt}], [{"role": "assistant", "content": answer}], where)


def rates(config, **settings):
    """Return the learning rate of every update."""
    session = tiny_session(["demonstrations"], **settings)
    return [session.kept["optimizer"].param_groups[0]["lr"] for _ in train(config, Run(session))]


def test_the_rate_falls_linearly_from_the_peak_to_a_tenth_without_warm_up():
    # 8 rows, 4 at a time, 3 passes: 6 updates, so steps of a fifth of 0.9.
    rows = rates(LIMAConfig(rows=8, kinds=3, batch_size=4, epochs=3.0, learning_rate=1e-3))
    assert rows == pytest.approx([1e-3, 8.2e-4, 6.4e-4, 4.6e-4, 2.8e-4, 1e-4])


def test_where_the_budget_ends_sooner_the_rate_falls_as_fast_as_it_is_spent():
    config = LIMAConfig(rows=8, kinds=3, batch_size=4, epochs=100.0, learning_rate=1e-3)
    trial = tiny_session(["demonstrations"])
    next(train(config, Run(trial)))
    falling = rates(config, budget=20.0 * trial.ledger.flops)
    assert sorted(falling, reverse=True) == falling
    assert 1e-4 <= falling[-1] < 2e-4


def test_one_update_has_the_full_rate():
    assert rates(LIMAConfig(rows=4, kinds=1, batch_size=4, epochs=1.0, learning_rate=1e-3)) == pytest.approx([1e-3])


def test_the_optimizer_is_the_papers():
    session = tiny_session(["demonstrations"])
    next(train(SMALL, Run(session)))
    (group,) = session.kept["optimizer"].param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.95), 0.1)


def test_the_run_ends_after_its_passes_with_money_left_and_nothing_to_flag():
    assert plugins().algorithm("lima").stops_early
    session = tiny_session(["demonstrations"])
    history = list(train(LIMAConfig(rows=8, kinds=3, batch_size=4, epochs=2.0), Run(session)))
    assert [metrics["passes"] for metrics in history] == [0.5, 1.0, 1.5, 2.0]
    assert session.ledger.flops < session.budget / 100
    assert session.ledger.flags == []


@pytest.mark.parametrize(("layers", "expected"), [(1, [0.0]), (2, [0.0, 0.3]), (4, [0.0, 0.1, 0.2, 0.3])])
def test_dropout_grows_linearly_from_nothing_at_the_bottom(layers, expected):
    assert dropout_rates(layers, 0.3) == pytest.approx(expected)


def tiny_gpt2():
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 32}
    return GPT2LMHeadModel(
        GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2)
    )


@pytest.mark.parametrize("make", [lambda: tiny_policy(num_hidden_layers=3), tiny_gpt2], ids=["llama", "gpt2"])
def test_dropout_falls_on_what_a_layer_adds_and_on_nothing_else(make):
    policy = make()
    seen = []

    def watch(layer, args, kwargs, output):
        before = args[0] if args else kwargs["hidden_states"]
        seen.append((before, output[0] if isinstance(output, tuple) else output))

    stack = policy.model.layers if hasattr(policy, "model") else policy.transformer.h
    for layer in stack:
        layer.register_forward_hook(watch, with_kwargs=True)  # sees what the layer itself returns: it comes first
    with residual_dropout(policy, 0.5):
        for layer in stack:
            layer.register_forward_hook(watch, with_kwargs=True)  # and this one what dropout has made of it
        policy(TOKENS)
    shares = []
    for (before, added), (same, dropped) in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(before, same)
        kept = dropped != before
        shares.append(1 - kept.float().mean().item())
        rate = [0.0, 0.25, 0.5][len(shares) - 1]
        assert torch.allclose((dropped - before)[kept], ((added - before) / (1 - rate))[kept], atol=1e-5)
    assert shares == pytest.approx([0.0, 0.25, 0.5], abs=0.08)


def test_dropout_is_gone_behind_the_context_even_after_an_error():
    policy = tiny_policy()
    before = policy(TOKENS).logits
    with residual_dropout(policy, 0.5):
        assert not torch.equal(policy(TOKENS).logits, before)
    assert torch.equal(policy(TOKENS).logits, before)
    with pytest.raises(KeyError), residual_dropout(policy, 0.5):
        raise KeyError
    assert torch.equal(policy(TOKENS).logits, before)


def test_training_has_dropout_and_leaves_none_between_updates():
    def first_loss(dropout):
        session = tiny_session(["demonstrations"])
        training = train(LIMAConfig(rows=8, kinds=3, batch_size=4, dropout=dropout), Run(session))
        loss = next(training)["loss"]
        assert torch.equal(session.policy(TOKENS).logits, session.policy(TOKENS).logits)
        return loss

    assert first_loss(0.0) != first_loss(0.5)
    assert first_loss(0.0) == pytest.approx(first_loss(0.5), abs=0.5)


def test_a_model_without_a_list_of_layers_is_refused():
    policy = tiny_policy()
    policy.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"no list of its 7 layers.*set dropout: 0"), residual_dropout(policy, 0.5):
        pass


def test_each_answer_ends_once_and_its_end_is_in_the_loss():
    run = tiny_run(signals=["demonstrations"])
    batch = run.demonstrations.only(select_curated(SMALL, run)).batch(0, 8)
    ends = (batch.responses == tiny_encoder().tokenizer.eos_token_id) & batch.mask
    assert ends.sum(1).tolist() == [1] * 8
    assert all(row[mask].tolist()[-1] for row, mask in zip(ends, batch.mask, strict=True))


def test_selected_rows_are_saved_with_the_reason_each_was_chosen_and_rejected_ones_by_rule(tmp_path):
    good = [
        said(f"{word} it {n}?", f"the {word} is number {n} of many.", f"good {word} {n}")
        for word in ("how", "why")
        for n in range(9)
    ]
    bad = [said("how?", "it goes on and on and then", "cut"), said("why?", "that is what i think now.", "mine")]
    session = tiny_session(["demonstrations"], rows={"demonstrations": bad + good}, directory=tmp_path)
    rows = select_curated(LIMAConfig(rows=8, kinds=2, shortest=0.0, longest=1.0), Run(session))

    saved = [json.loads(line) for line in (tmp_path / "selected.jsonl").read_text().splitlines()]
    assert [(row["where"], row["completion"]) for row in saved] == [(row.where, row.completion) for row in rows]
    assert len({row["where"] for row in saved}) == 8
    assert sorted(row["where"][:8] for row in saved) == ["good how"] * 4 + ["good why"] * 4
    for row in saved:
        word = row["where"].split()[1]
        assert row["reason"].startswith("breaks no rule; one of 4 drawn of 9 of kind ")
        assert word in row["reason"]

    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {row["rule"]: row["where"] for row in rejected if row["rows"]} == {
        "it is cut off": ["cut"],
        "it is in the first person": ["mine"],
    }
    assert [row["rows"] for row in rejected] == [len(row["where"]) for row in rejected]
    assert len(rejected) == 8


def test_selection_is_the_same_for_the_same_seed_and_another_for_another():
    def at_random(config, run):
        return run.demonstrations.drawn(config.rows, run.rng(0, "random rows"))

    def chosen(seed, select):
        return [row.where for row in select(SMALL, tiny_run(signals=["demonstrations"], seed=seed))]

    for select in (select_curated, at_random):
        assert chosen(0, select) == chosen(0, select)
        assert len({tuple(chosen(seed, select)) for seed in range(4)}) == 4


def test_no_more_rows_are_selected_than_pass():
    assert len(select_curated(LIMAConfig(rows=999, kinds=3), tiny_run(signals=["demonstrations"]))) == 24


def test_curating_reads_the_whole_pool_and_is_charged_and_the_control_reads_and_pays_for_its_own_rows_only():
    session, control = (tiny_session(["demonstrations"]) for _ in range(2))
    select_curated(SMALL, Run(session))
    report = session.ledger.report()
    assert report["flops_by_role_phase"] == {"selection/prepare": report["declared"]}
    assert report["declared"] > 0
    assert len(report["rows"]["demonstrations"]) == 24
    list(train(LIMAConfig(rows=8, batch_size=8, epochs=2.0, selection="random"), Run(control)))
    assert len(control.ledger.rows["demonstrations"]) == 8
    assert control.ledger.declared == 0


def test_a_pool_in_which_nothing_passes_is_refused_with_the_rules_that_it_broke():
    rows = [said(f"what is {n}?", f"i think it is {n}.", f"row {n}") for n in range(10, 20)]
    with pytest.raises(DataError, match=r"none of the 10 .* \(it is in the first person: 10\); set selection: random"):
        select_curated(SMALL, tiny_run(signals=["demonstrations"], rows={"demonstrations": rows}))


def test_plain_text_is_itself_and_a_conversation_all_that_was_said():
    assert plain("so it is") == "so it is"
    assert plain([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]) == "a\nb"


def test_good_answers_are_learnt_better_from_curated_rows_than_from_as_many_random_ones():
    # Of 100 answers 40 break off; a policy that learns from them breaks off as often, and cannot know when: unseen good
    # answers then lose at least −ln .6 = .5 where it may stop, a quarter of that on each of their tokens and the end.
    prompts = [f"say {chr(98 + n % 10)}{chr(98 + n // 10)}" for n in range(120)]
    good = [said(prompt, "abc.", prompt) for prompt in prompts]
    pool = [said(row.where, "ab", row.where) if n % 5 < 2 else row for n, row in enumerate(good[:100])]

    def loss(selection):
        session = tiny_session(["demonstrations"], rows={"demonstrations": pool})
        config = LIMAConfig(selection=selection, rows=48, kinds=4, batch_size=16, learning_rate=1e-2, epochs=15.0)
        list(train(config, Run(session)))
        batch = session.encoder.responses([(row.prompt, row.completion) for row in good[100:]])
        with torch.no_grad():
            return -masked_mean(response_logprobs(session.policy, batch), batch.mask).item()

    assert loss("curated") < 0.02
    assert loss("random") > 0.08


@pytest.mark.parametrize("name", ["demonstrations", "arithmetic"])
def test_rules_leave_part_of_ordinary_english_data(name):
    file = Path(__file__).parents[4] / "shared" / "data" / "real" / f"{name}.jsonl"
    if not file.exists():
        pytest.skip("needs real rows, which are not part of the repository")
    from zoo_lima.selection import Pair, find_kinds, sift

    from zoo_core.datasets.parse import demonstrations

    with file.open() as lines:
        rows = [one for line in islice(lines, 600) for one in demonstrations(json.loads(line), "row")]
    pairs = [Pair(plain(row.prompt), plain(row.completion)) for row in rows]
    kept, rejected = sift(pairs, 0.05, 0.95)
    assert 100 < len(kept) < 600
    assert sum(map(len, rejected.values())) == 600 - len(kept)
    kinds = find_kinds([pairs[row].prompt for row in kept], 16, seed=0)
    assert len(set(kinds.labels)) == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selection": "best"}, "selection='best' must be one of curated, random"),
        ({"shortest": 0.9, "longest": 0.9}, "shortest=0.9 must be below longest=0.9"),
        ({"shortest": -0.1}, "both between 0 and 1"),
        ({"longest": 1.1}, "both between 0 and 1"),
        ({"dropout": 1.0}, "dropout=1.0 must be 0 or more and below 1"),
        ({"rows": 0}, "rows=0 must be 1 or more"),
        ({"kinds": 0}, "kinds=0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"epochs": 0.0}, "epochs=0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LIMAConfig(**settings)
