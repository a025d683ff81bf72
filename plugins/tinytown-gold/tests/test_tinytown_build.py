"""The laws of the hooks, the tokenizer, the tasks and the builds."""

import json
from importlib import import_module
from itertools import islice
from pathlib import Path
from statistics import mean

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from typer.testing import CliRunner
from zoo_tinytown.plugin import zoo_load_model
from zoo_tinytown_gold import plugin
from zoo_tinytown_gold.build import Recipe, build, encoded
from zoo_tinytown_gold.cli import app
from zoo_tinytown_gold.gold import Gold
from zoo_tinytown_gold.models import answers
from zoo_tinytown_gold.requests import prompts
from zoo_tinytown_gold.rows import preferences
from zoo_tinytown_gold.samples import start_pairs
from zoo_tinytown_gold.tokenizer import chat_prompt, make_tokenizer
from zoo_tinytown_gold.world import get_world

from zoo_core.errors import ModelError, SpecError, StorageError, ZooError
from zoo_core.models.loading import load_policy

SMALL = Recipe(steps=4, documents=8, warmup=2, checkpoint_seconds=0.0)


def labelled(number: int, count: int):
    return islice(preferences(get_world(number), 0, [None] * 1500), count)


@pytest.mark.parametrize(("kind", "least"), [("dev_prompts", 256), ("test_prompts", 1024)])
def test_the_prompts_that_are_scored_are_conversational_rows_and_enough(kind, least) -> None:
    rows = list(plugin.zoo_load_dataset("tinytown:prompts", kind, 0))
    assert len(rows) >= least
    assert all(set(row) == {"prompt"} and row["prompt"][0]["role"] == "user" for row in rows)


def test_references_of_others_are_left_to_others() -> None:
    assert plugin.zoo_load_dataset("mine:prompts", "test_prompts", 0) is None
    assert plugin.zoo_load_dataset("tinytown:prompts", "prompts", 0) is None
    assert plugin.zoo_reward("mine:gold") is None
    with pytest.raises(SpecError, match="Known: gold"):
        plugin.zoo_reward("tinytown:golds")


def test_the_reward_is_gold_and_knows_its_best() -> None:
    gold = plugin.zoo_reward("tinytown/2:gold")
    assert isinstance(gold, Gold)
    assert (gold.best, gold.world.number) == (1.0, 2)


def test_texts_of_the_world_survive_the_tokenizer() -> None:
    for number in (0, 1):
        tokenizer = make_tokenizer(get_world(number))
        assert len(tokenizer) <= 512
        for row in labelled(number, 200):
            for key in ("prompt", "chosen", "rejected"):
                text = row[key][0]["content"]
                assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_chat_template_is_the_form_the_base_was_trained_on() -> None:
    tokenizer = make_tokenizer(get_world(0))
    row = next(iter(labelled(0, 1)))
    user, answer = row["prompt"][0]["content"], row["chosen"][0]["content"]
    assert tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) == chat_prompt(user)
    whole = tokenizer.apply_chat_template(
        row["prompt"] + row["chosen"], return_dict=True, return_assistant_tokens_mask=True
    )
    ((asked, said),) = encoded(tokenizer, [(user, answer)]).rows
    assert whole["input_ids"] == [*asked, *said]
    assert whole["assistant_masks"] == [0] * len(asked) + [1] * len(said)
    assert whole["input_ids"][-1] == tokenizer.eos_token_id
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3


def test_the_shipped_base_loads_and_answers_in_sentences_of_its_world() -> None:
    directory = zoo_load_model("tinytown:base")
    assert (directory / "model.safetensors").stat().st_size <= 4_000_000
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.get_vocab() == make_tokenizer(get_world(0)).get_vocab()
    texts = [text for _, text in islice(prompts(get_world(0), "test", 0), 64)]
    said = answers(load_policy(directory), directory, texts, 0.7)
    gold = Gold(get_world(0))
    assert sum(sample.ended for sample in said) >= 60
    assert sum(gold.parts(said)["form"]) / 64 > 0.9
    assert 0.05 < sum(gold(said)) / 64 < 0.65


def test_the_samples_that_come_with_the_package_are_those_of_its_base(monkeypatch) -> None:
    def no_training(*_: object) -> None:
        raise AssertionError("the shipped samples were not found by what they are made from")

    monkeypatch.setattr("zoo_tinytown_gold.samples.write", no_training)
    for seed in range(3):
        pairs = [pair for pair in start_pairs(get_world(0), seed) if pair]
        assert len(pairs) > 1450
        assert all(first != second for first, second in pairs)


@pytest.mark.parametrize(("name", "least"), [("tinytown_facts", 300), ("tinytown_sums", 200)])
def test_tasks_are_accepted_by_lm_eval_and_ask_in_the_chat_form(name: str, least: int) -> None:
    from lm_eval.api.task import ConfigurableTask

    record = next(task for task in plugin.zoo_tasks() if task.name == name)
    module, _, attribute = record.config.partition(":")
    task = ConfigurableTask(config=getattr(import_module(module), attribute)())
    rows = list(task.test_docs())
    assert len(rows) >= least
    assert all(len(set(row["choices"])) == 4 and 0 <= row["label"] < 4 for row in rows)
    assert task.doc_to_text(rows[0]).startswith("<bos><|user|>")
    assert task.doc_to_text(rows[0]).endswith("<|assistant|>")


def test_tasks_of_a_built_world_are_listed_beside_the_shipped_ones(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    for name in ("5", "x", "-2"):
        (tmp_path / "tinytown" / name).mkdir(parents=True)
        (tmp_path / "tinytown" / name / "world.json").write_text("{}")
    (tmp_path / "tinytown" / "6").mkdir()
    names = [task.name for task in plugin.zoo_tasks()]
    assert names == ["tinytown_facts", "tinytown_sums", "tinytown_5_facts", "tinytown_5_sums"]
    from zoo_tinytown_gold import tasks as module

    assert module.facts_5()["task"] == "tinytown_5_facts"
    with pytest.raises(AttributeError):
        module.fact_5  # noqa: B018


class _Stop(Exception):
    pass


def _stop_after(step: int):
    def on_step(done: int, loss: float) -> None:
        if done == step:
            raise _Stop

    return on_step


def _ignore(step: int, loss: float) -> None:
    pass


def test_an_interrupted_build_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    world = get_world(3)
    build(world, tmp_path / "whole", SMALL, _ignore)
    with pytest.raises(_Stop):
        build(world, tmp_path / "broken", SMALL, _stop_after(3))
    build(world, tmp_path / "broken", SMALL, _ignore)
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert not (tmp_path / "broken" / "checkpoint.safetensors").exists()
    assert json.loads((tmp_path / "broken" / "world.json").read_text())["world"] == 3


def test_the_checkpoint_of_another_build_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        build(get_world(3), tmp_path, SMALL, _stop_after(3))
    with pytest.raises(StorageError, match="another build"):
        build(get_world(4), tmp_path, SMALL, _ignore)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(StorageError, match="cannot be read"):
        build(get_world(3), tmp_path, SMALL, _ignore)


def test_the_commands_refuse_what_is_no_world_and_what_is_not_built(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["build", "--world", "x"])
    assert isinstance(result.exception, ZooError)
    result = CliRunner().invoke(app, ["gates", "--world", "2", "--directory", str(tmp_path)])
    assert isinstance(result.exception, ModelError)


@pytest.mark.slow
def test_a_tenth_of_the_recipe_rebuilds_the_base_of_world_0_to_the_quality_that_the_readme_says(tmp_path: Path) -> None:
    losses: list[float] = []
    build(get_world(0), tmp_path, Recipe(steps=300), lambda _, loss: losses.append(loss))
    assert mean(losses[-20:]) == pytest.approx(1.52, abs=0.05)
    texts = [text for _, text in islice(prompts(get_world(0), "test", 0), 128)]
    said = answers(load_policy(tmp_path).eval(), tmp_path, texts, 0.5)
    gold = Gold(get_world(0))
    assert mean(gold.parts(said)["form"]) > 0.97
    assert mean(gold(said)) == pytest.approx(0.19, abs=0.05)
