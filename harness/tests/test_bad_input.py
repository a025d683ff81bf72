"""Whatever a user gets wrong ends in one message that says what, where and what to do, before anything is trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from zoo_harness import bench, probe
from zoo_harness.figures import budget_of, figures
from zoo_harness.jobs import Job
from zoo_harness.live import LiveTable
from zoo_harness.pipeline import Pipeline
from zoo_harness.plan import Plan
from zoo_harness.spec import Spec, read

from zoo_core.errors import BudgetError, DataError, ModelError, SpecError, StorageError, ZooError
from zoo_core.testing import tiny_tokenizer


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(world: Path, **changes: Any) -> dict[str, Any]:
    """Do what `zoo bench` does before it trains, in this process."""
    spec = spec_of(world, **changes)
    pipeline = Pipeline.of(spec)
    payload = {
        "spec": spec.model_dump(mode="json"),
        "kinds": pipeline.kinds,
        "rewards": pipeline.rewards,
        "measure": pipeline.measurements(),
    }
    return probe.run(Job(kind="probe", title="probe", directory=world, identity="test", payload=payload))


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
        check(world, algorithms=[{"name": "ppo", "minibatch_size": 5}])
    with pytest.raises(SpecError, match="dpo: beta: Input should be a valid number"):
        check(world, algorithms=[{"name": "dpo", "beta": "strong"}])


def test_a_stage_is_no_row(world):
    with pytest.raises(SpecError, match="'reward-model' prepares a stage"):
        check(world, algorithms=["reward-model"])


def test_missing_signal(world):
    with pytest.raises(SpecError, match="learns from demonstrations; give it in the spec under `demonstrations:`"):
        check(world, demonstrations=None)


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
    with pytest.raises(ModelError, match=f"the tokenizer has no {token[:3].upper()} token.*tokenizer.{token} ="):
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
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(bench.shutil, "disk_usage", lambda path: full)
    with pytest.raises(StorageError, match=r"MiB are free\. Make room"):
        bench.run(plan, LiveTable(Console()))
    assert not (tmp_path / "out" / "bench.json").exists()


def test_another_bench_in_the_folder_is_not_overwritten(world, tmp_path, monkeypatch):
    plan = plan_of(world, tmp_path)
    monkeypatch.setattr(bench, "_probe", lambda *_: plan.probe)
    output = tmp_path / "taken"
    output.mkdir()
    (output / "bench.json").write_text(json.dumps({**bench.bench_json(plan), "bench_id": "x", "seeds": 7}))
    with pytest.raises(SpecError, match=r"taken: holds another bench \(different: seeds\)"):
        bench.make_plan(spec_of(world), output)


def test_every_error_is_a_user_error():
    for kind in (BudgetError, DataError, ModelError, SpecError, StorageError):
        assert issubclass(kind, ZooError)
