"""Whatever a user gets wrong ends in one message that says what, where and what to do, before anything is trained."""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from zoo_harness import bench, prepare, record
from zoo_harness.executors.inline import Inline
from zoo_harness.job import Job
from zoo_harness.jobs.lmeval import load_tasks
from zoo_harness.jobs.materials import Materials
from zoo_harness.jobs.worker import import_beside
from zoo_harness.live import LiveScreen
from zoo_harness.planning.estimate import budget_of, figures, notes_on_data, notes_on_models
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.probing import Waiting, probed
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import Spec

from zoo_core.errors import BudgetError, DataError, ModelError, SpecError, StorageError, ZooError
from zoo_core.models.copies import scorer_from
from zoo_core.registry.references import load_rows
from zoo_core.rows import Preference
from zoo_core.storage import atomic as storage
from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(world: Path, **changes: Any) -> dict[str, Any]:
    """Do what `zoo bench` does before it trains, in this process."""
    spec = spec_of(world, **changes)
    import_beside(spec)
    with tempfile.TemporaryDirectory() as folder:
        return probed(Pipeline.of(spec), Path(folder), Inline(), lambda device: 1, Waiting())[1]


def spec_of(world: Path, **changes: Any) -> Spec:
    return read(world / "spec.yaml", None, changes)


def copy_of_base(world: Path, folder: Path) -> Path:
    return Path(shutil.copytree(world / "base", folder / "base"))


def test_the_good_input_that_the_bad_ones_are_made_of_passes(world):
    found = check(world)
    assert found["data"]["preferences"]["rows"] == [32, 32]
    updates = {row: found["costs"][row]["loops"][-1]["flops"] for row in ("ppo", "dpo")}
    assert updates["ppo"] > updates["dpo"] > 0


def test_unknown_algorithm(world):
    with pytest.raises(SpecError, match=r"the algorithm 'ppoo'. Did you mean 'ppo'\?"):
        check(world, algorithms=["ppoo"])


def test_unknown_setting_and_wrong_value(world):
    with pytest.raises(SpecError, match=r"dpo has no setting 'betta'. Did you mean 'beta'\?"):
        check(world, algorithms=[{"name": "dpo", "betta": 1}])
    with pytest.raises(SpecError, match="ppo: minibatch_size=5 must divide batch_size=12"):
        check(world, algorithms=[{"name": "ppo", "batch_size": 12, "minibatch_size": 5}])
    with pytest.raises(SpecError, match="dpo: beta: Input should be a valid number"):
        check(world, algorithms=[{"name": "dpo", "beta": "strong"}])


def test_a_stage_is_no_row(world):
    with pytest.raises(SpecError, match="'reward-model' prepares a stage"):
        check(world, algorithms=["reward-model"])


def test_missing_signal(world):
    with pytest.raises(SpecError, match="learns from demonstrations; give it in the spec under `demonstrations:`"):
        check(world, demonstrations=None, preferences=None)
    with pytest.raises(SpecError, match=r"learns from demonstrations; .* or give a file of pairs under `preferences:`"):
        check(world, demonstrations=None, preferences={"annotator": "judge:share_of_a"}, reward="judge:share_of_a")


def test_empty_data_file(world, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"empty.jsonl: the file is empty"):
        check(world, preferences=str(tmp_path / "empty.jsonl"))


def test_truncated_data_file(world, tmp_path):
    whole = (world / "pairs.jsonl").read_text()
    (tmp_path / "cut.jsonl").write_text(whole[: len(whole) - 20])
    with pytest.raises(DataError, match=r"cut.jsonl:150: this line is not JSON .* cut off"):
        check(world, preferences=str(tmp_path / "cut.jsonl"))


def test_row_without_chosen(world, tmp_path):
    rows = [json.loads(line) for line in (world / "pairs.jsonl").read_text().splitlines()]
    del rows[6]["chosen"]
    with pytest.raises(DataError, match=r"pairs.jsonl:7: the row has no 'chosen'.* It has: prompt, rejected"):
        check(world, preferences=str(write_rows(tmp_path / "pairs.jsonl", rows)))


def test_absent_file_and_unknown_reference(world):
    with pytest.raises(DataError, match=r"nowhere\.jsonl: there is no such file"):
        check(world, prompts="nowhere.jsonl")
    with pytest.raises(ModelError, match="'nonsense' is neither a local directory, a hub id"):
        check(world, base="nonsense")


def test_hub_id_while_offline(world):
    with pytest.raises(ModelError, match=r"some-org/some-model: no such directory .* HF_HUB_OFFLINE is set"):
        check(world, base="some-org/some-model")
    with pytest.raises(DataError, match=r"some-org/some-pairs: no such file .* HF_HUB_OFFLINE is set"):
        check(world, preferences="some-org/some-pairs")


def long_prompts(world: Path, folder: Path) -> Path:
    rows = [json.loads(line) for line in (world / "prompts.jsonl").read_text().splitlines()]
    rows[2]["prompt"][0]["content"] = "b" * 40
    return write_rows(folder / "long.jsonl", rows)


def test_prompt_longer_than_allowed(world, tmp_path):
    with pytest.raises(DataError, match=r"long.jsonl:3: the prompt has 43 tokens, more than prompt_tokens=16"):
        check(world, prompts=str(long_prompts(world, tmp_path)))


def test_long_prompts_can_be_dropped_and_are_counted(world, tmp_path):
    found = check(world, prompts=str(long_prompts(world, tmp_path)), long_prompts="drop")
    splits = ("prompts", "dev_prompts", "test_prompts")
    assert sum(found["data"][split]["dropped"][0] for split in splits) == 1


def test_lengths_beyond_the_context(world):
    with pytest.raises(SpecError, match=r"make 106 tokens, more than the context of .* \(64\)"):
        check(world, prompt_tokens=100)


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_tokenizer_without_pad_or_eos(world, tmp_path, token):
    base = copy_of_base(world, tmp_path)
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, token, None)
    tokenizer.save_pretrained(base)
    with pytest.raises(ModelError, match=f"the tokenizer has no {token[:3].upper()} token.*add_special_tokens"):
        check(world, base=str(base))


def test_pickled_weights_only(world, tmp_path):
    base = copy_of_base(world, tmp_path)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights only \(pytorch_model.bin\).*safe_serialization=True"):
        check(world, base=str(base))


def test_conversations_without_a_chat_template(world, tmp_path):
    base = copy_of_base(world, tmp_path)
    (base / "chat_template.jinja").unlink()
    with pytest.raises(
        ModelError, match=r"jsonl:\d+: this is a conversation, but the model's tokenizer has no chat template"
    ):
        check(world, base=str(base))


def test_reward_and_gold_that_cannot_be_had(world):
    with pytest.raises(SpecError, match="gold: the reward 'judge:nobody' cannot be imported"):
        check(world, gold="judge:nobody")
    with pytest.raises(ModelError, match="nowhere: there is no such directory"):
        check(world, reward="./nowhere")


# Rows that say nothing, or not all


def test_pairs_without_a_difference_are_no_labels_and_are_counted(world, tmp_path):
    rows = json_rows(world / "pairs.jsonl")
    for row in rows[::3]:
        row["rejected"] = row["chosen"]
    found = check(world, preferences=str(write_rows(tmp_path / "pairs.jsonl", rows)))["data"]["preferences"]
    assert found["rows"] == [32, 32]
    assert min(found["alike"]) > 0
    spec = spec_of(world)
    assert any("pairs whose answers do not differ in their first 6 tokens" in n for n in notes_on({**found}, spec))


def notes_on(found: dict[str, Any], spec: Spec) -> list[str]:
    return notes_on_data({"preferences": found}, spec)


@pytest.mark.parametrize("answer", ["a", "abcdef"], ids=["the same text", "the same before the cut"])
def test_pairs_of_which_none_has_a_difference_are_refused(world, tmp_path, answer):
    rows = json_rows(world / "pairs.jsonl")
    for number, row in enumerate(rows):
        row["chosen"] = [{"role": "assistant", "content": answer}]
        row["rejected"] = [{"role": "assistant", "content": answer + ("xyz"[number % 3] if len(answer) > 1 else "")}]
    with pytest.raises(SpecError, match=r"chosen and rejected are the same in all \d+ pairs.* response_tokens=6"):
        check(world, preferences=str(write_rows(tmp_path / "pairs.jsonl", rows)))


def test_answers_that_are_cut_are_counted_for_each_data_set(world, tmp_path):
    rows = json_rows(world / "demos.jsonl")
    for row in rows:
        row["completion"][0]["content"] = "a" * 6  # and the end: 7
    found = check(world, demonstrations=str(write_rows(tmp_path / "demos.jsonl", rows)))["data"]
    assert (found["demonstrations"]["cut"], found["preferences"]["cut"]) == ([64, 64], [0, 0])
    (note,) = notes_on_data({"demonstrations": found["demonstrations"]}, spec_of(world))
    assert note.startswith("demonstrations: 64 of 64 answers are longer than response_tokens=6 and are cut")


def test_what_was_converted_is_told_once_for_each_file(world, tmp_path):
    turns = {"user": "Human", "assistant": "Assistant"}
    rows = [
        {
            side: "".join(f"\n\n{turns[m['role']]}: {m['content']}" for m in [*row["prompt"], *row[side]])
            for side in ("chosen", "rejected")
        }
        for row in json_rows(world / "pairs.jsonl")
    ]
    path = str(write_rows(tmp_path / "hh.jsonl", rows))
    changes = {"preferences": path, "prompts": path, "algorithms": ["dpo"]}
    found = check(world, **changes)["data"]
    (note,) = [one for one in notes_on_data(found, spec_of(world, **changes)) if "converted" in one]
    assert note.startswith("preferences: 150 of 150 rows are HH transcripts and converted: {'chosen': '")


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_that_the_second_seed_alone_draws_is_met_and_named(world, tmp_path):
    base, file = copy_of_base(world, tmp_path), tmp_path / "demos.jsonl"
    for line in range(1, 151):  # what a row says decides which seeds draw it
        rows = json_rows(world / "demos.jsonl")
        rows[line - 1]["completion"] = [{"role": "assistant", "content": "a<system>"}]
        write_rows(file, rows)
        drawn = [{row.where for row in load_rows(str(file), "demonstrations", seed, 64)} for seed in (0, 1)]
        if [f"{file}:{line}" in some for some in drawn] == [False, True]:
            break
    refusing = "{% if '<system>' in messages[-1]['content'] %}{{ raise_exception('no such answer') }}{% endif %}"
    (base / "chat_template.jinja").write_text(refusing + (base / "chat_template.jinja").read_text())
    with pytest.raises(DataError, match=rf"demos.jsonl:{line}: the chat template .* refuses .*: no such answer"):
        check(world, base=str(base), demonstrations=str(file))


def scorer(folder: Path, template: str, **settings: Any) -> Path:
    model = scorer_from(tiny_policy(**settings), 0)
    model.save_pretrained(folder / "scorer")
    words = tiny_tokenizer()
    words.chat_template = template + words.chat_template
    words.save_pretrained(folder / "scorer")
    return folder / "scorer"


@pytest.mark.parametrize("key", ["gold", "reward"])
def test_a_prompt_that_a_scorers_template_refuses_is_named_by_file_and_line(world, tmp_path, key):
    rows = json_rows(world / "prompts.jsonl")
    rows[40]["prompt"].insert(0, {"role": "system", "content": "b"})
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    changes = {"prompts": str(write_rows(tmp_path / "p.jsonl", rows)), key: str(scorer(tmp_path, refusing))}
    with pytest.raises(DataError, match=rf"{key}: .*p.jsonl:41: the chat template of .*scorer refuses .*no system"):
        check(world, **changes)


def test_an_ordinary_word_that_ends_a_response_is_refused(world, tmp_path):
    base = copy_of_base(world, tmp_path)
    config = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [2, 9]}))
    with pytest.raises(ModelError, match=r"ends a response with the id 9, which is the ordinary token 'c'"):
        check(world, base=str(base))


# What a user's own functions do


REWARDS = """
def boom(samples):
    return [score(sample) for sample in samples]

def score(sample):
    raise ValueError("sandbox timed out")

def none(samples):
    return [None if number % 2 else 1.0 for number, _ in enumerate(samples)]

def nothing(samples):
    pass

class Likes:
    def __call__(self, samples):
        return [float("nan")] * len(samples)

likes = Likes()

def wants_a_user_first(samples):
    return [float(sample.prompt[0]["role"] == "user") or 1 / 0 for sample in samples]
"""


@pytest.mark.parametrize("key", ["reward", "gold", "annotator"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boom", r"the reward own:boom raised ValueError: sandbox timed out \(.*own\.py:6\).* one finite number"),
        ("none", r"the reward own:none gave None for sample 2; it must return one finite number per sample"),
        ("nothing", r"the reward own:nothing gave None; it must return one finite number per sample"),
        ("likes", r"the reward own:Likes gave the score nan; it must return one finite number per sample"),
    ],
)
def test_a_reward_that_fails_is_named_with_its_place_and_what_it_must_return(own, key, name, message):
    world, ref = own(REWARDS), f"own:{name}"
    changes = {"preferences": {"annotator": ref, "pairs": 32}} if key == "annotator" else {key: ref}
    with pytest.raises(SpecError, match=f"{'preferences.annotator' if key == 'annotator' else key}: {message}"):
        check(world, **changes)


def test_a_reward_meets_every_form_of_conversation_before_training(own, world):
    folder = own(REWARDS)
    rows = json_rows(world / "prompts.jsonl")
    rows[40]["prompt"].insert(0, {"role": "system", "content": "b"})
    with pytest.raises(SpecError, match=r"reward: the reward own:wants_a_user_first raised ZeroDivisionError"):
        check(folder, prompts=str(write_rows(folder / "p.jsonl", rows)), reward="own:wants_a_user_first")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f.best = 'high'", r"has best = 'high'; it must be the highest score"),
        ("f.best = float('nan')", r"has best = nan"),
        ("f.parts = lambda samples: 1 / 0", r"parts of the reward own:f raised ZeroDivisionError.*own.py:3"),
        ("f.parts = lambda samples: {'a': [1.0]}", r"parts of the reward own:f gave .*one number per sample for each"),
    ],
)
def test_what_a_gold_says_of_itself_is_checked(own, line, message):
    code = f"def f(samples):\n    return [1.0 for _ in samples]\n{line}\n"
    with pytest.raises(SpecError, match=rf"gold: .*{message}"):
        check(own(code), gold="own:f")


def test_prompts_of_which_a_scorer_reads_the_end_only_are_counted(world, tmp_path):
    path = scorer(tmp_path, "", max_position_embeddings=10)
    found = check(world, gold=str(path))
    (note,) = notes_on_models({**found, "base": {"ends": ["<eos>"]}})
    assert note.startswith(f"{path}: of 150 of 150 prompts it reads the end only")
    assert "context of 10 tokens" in note


def test_several_ends_of_a_response_are_told():
    (note,) = notes_on_models({"base": {"ends": ["<a>", "<b>"]}, "cut_by_scorers": {}})
    assert note == "a response ends with any of <a>, <b>."


@pytest.mark.parametrize(
    ("code", "message"),
    [("def f(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_a_reward_whose_module_cannot_be_imported_is_named(own, code, message):
    with pytest.raises(SpecError, match=rf"reward: the reward 'own:f' cannot be imported: {message}"):
        check(own(code), reward="own:f")


@pytest.fixture
def own(world, tmp_path, monkeypatch):
    """Return a copy of the world with a module of the user's beside the spec."""

    def write(code: str) -> Path:
        folder = Path(shutil.copytree(world, tmp_path / "own"))
        (folder / "own.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "own", raising=False)
        return folder

    yield write
    sys.modules.pop("own", None)


STRANGE = "b\u2028b\u2029b\u0085b\x00b\r\nb"


def test_texts_with_line_ends_of_unicode_stay_one_row_in_the_pairs_that_a_bench_makes(world, tmp_path):
    materials = Materials(spec_of(world), pairs=tmp_path)
    pairs = [{"prompt": f"{STRANGE}{n}", "chosen": f"a{STRANGE}", "rejected": STRANGE} for n in range(3)]
    asked = materials.rows("prompts", 0)[0].where
    storage.write_rows(tmp_path / "pairs.jsonl", [{**pair, "from": asked} for pair in pairs])
    assert materials.rows("preferences", 0) == [
        Preference(**pair, where=f"pairs.jsonl:{number}") for number, pair in enumerate(pairs, start=1)
    ]


def test_a_bench_of_prompts_with_line_ends_of_unicode_is_planned(world, tmp_path):
    rows = json_rows(world / "prompts.jsonl")
    for row in rows:
        row["prompt"][0]["content"] += "\u2028\u0085"
    changes = {"prompts": str(write_rows(tmp_path / "p.jsonl", rows)), "algorithms": ["dpo"]}
    check(world, preferences={"annotator": "judge:share_of_a", "pairs": 32}, **changes)


# Tasks


def test_a_task_is_run_by_the_name_in_its_file_whatever_the_file_is_called(world, tmp_path):
    file = tmp_path / "other-name.yaml"
    file.write_text((world / "spell.yaml").read_text().replace("task: spell", "task: odd"))
    assert "task odd" in check(world, tasks=[str(file)], algorithms=["sft"])["hashes"]
    with pytest.raises(SpecError, match="holds a task 'odd', and another one here is called so"):
        load_tasks([str(file), str(file)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("doc_to_choice: choices", "doc_to_choice: options", "spell.yaml' cannot be loaded here: ValueError"),
        ("doc_to_target: label", "doc_to_target: '{{label / 0}}'", "spell.yaml' cannot be loaded here: ZeroDivision"),
        ('"{{question}}"', '"{{question | nonsense}}"', "spell.yaml' cannot be loaded here: TemplateAssertion"),
        ("metric: acc", "metric: nonsense", "cannot be"),
        ("task: spell", "task: spell\nnum_fewshot: 1", "the key 'num_fewshot' is there twice, in lines 3 and"),
        ("task: spell", "tusk: spell", "holds 0 tasks; it needs one line `task: name`"),
    ],
)
def test_a_task_that_cannot_be_asked_is_named_before_training(world, tmp_path, old, new, message):
    text = (world / "spell.yaml").read_text()
    assert old in text
    (tmp_path / "spell.yaml").write_text(text.replace(old, new))
    with pytest.raises(SpecError, match=rf"tasks: .*{message}"):
        check(world, tasks=[str(tmp_path / "spell.yaml")], algorithms=["sft"])


# Folders


@pytest.mark.parametrize("named", [True, False])
def test_a_cache_folder_that_cannot_be_made_is_told_with_the_remedy(tmp_path, monkeypatch, named):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache") if named else "")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"the cache folder.* cannot be made or written.*ZOO_CACHE=/path"):
        prepare.cache_folder()


def test_an_output_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/out: the folder cannot be made \(Not a directory\)"):
        Job(kind="probe", title="probe", directory=tmp_path / "file" / "out", identity="x").lock()


def test_unknown_task(world):
    with pytest.raises(SpecError, match=r"there is no task 'tinytown_fact'. Did you mean 'tinytown_facts'\?"):
        check(world, tasks=["tinytown_fact"])


def plan_of(world: Path, folder: Path, **changes: Any) -> Plan:
    spec = spec_of(world, **changes)
    found = check(world, **changes)
    return Plan(Pipeline.of(spec), found, budget_of(spec, found), folder / "out", folder / "cache")


def test_a_budget_too_small_for_one_update(world, tmp_path):
    with pytest.raises(BudgetError, match=r"too small for one update of sft.*Give a larger --budget"):
        figures(plan_of(world, tmp_path, budget=1e6, algorithms=["sft"]))


def test_a_row_whose_stages_eat_the_budget_is_announced(world, tmp_path):
    found = figures(plan_of(world, tmp_path, budget=2e8))
    assert any("ppo does not fit in this budget" in warning for warning in found["warnings"])


def test_a_time_is_converted_once_to_two_digits(world, tmp_path):
    plan = plan_of(world, tmp_path, budget="90s")
    assert float(f"{plan.budget:.1e}") == plan.budget > 1e9


def test_a_full_disk_is_told_before_anything_starts(world, tmp_path, monkeypatch):
    plan = plan_of(world, tmp_path)
    almost = shutil.disk_usage(tmp_path)._replace(free=bench.SPARE_BYTES)
    monkeypatch.setattr(bench.shutil, "disk_usage", lambda path: almost)
    with pytest.raises(StorageError, match=r"Make room, or give --output on another disk") as told:
        bench.run(plan, LiveScreen(Console()))
    files, spare, free = (int(number) for number in re.findall(r"(\d+) *MiB", str(told.value)))
    assert files + spare > free == 200  # who adds up what is said sees why
    assert not (tmp_path / "out" / "bench.json").exists()


def test_another_bench_in_the_folder_is_not_overwritten(world, tmp_path, monkeypatch):
    plan = plan_of(world, tmp_path)
    monkeypatch.setattr(prepare, "probed", lambda *_: (plan.pipeline, plan.probe))
    output = tmp_path / "taken"
    output.mkdir()
    known = record.bench_of(plan, "zoo bench")
    other = {"bench_id": "x", "world_id": "x", "spec": {**known["spec"], "response_tokens": 99}}
    (output / "bench.json").write_text(json.dumps({**known, **other}))
    with pytest.raises(SpecError, match=r"taken holds another bench \(different: response_tokens\)\. Give"):
        prepare.make_plan(spec_of(world), output)


def test_every_error_is_a_user_error():
    for kind in (BudgetError, DataError, ModelError, SpecError, StorageError):
        assert issubclass(kind, ZooError)
