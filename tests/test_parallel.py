"""Several processes train as one does: the same losses, weights and ledger, by DDP and by FSDP2 (gloo, on the CPU)."""

import gc
import json
import os
import runpy
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from zoo_core.compute.data_parallel import shares
from zoo_core.compute.sharding import prepare_model
from zoo_core.testing.tiny import tiny_policy

TRAINED = {
    "sft": {"kind": "train", "name": "sft"},
    "dpo": {"kind": "train", "name": "dpo"},
    "reward-model": {"kind": "train", "name": "reward-model"},
    "grpo": {"kind": "train", "name": "grpo"},
    "ppo": {"kind": "train", "name": "ppo"},
    "layers": {"kind": "train", "name": "dpo", "memory": {"gradient_checkpointing": True}},
    "adapted-sft": {"kind": "train", "name": "sft", "adapted": True},
    "adapted-dpo": {"kind": "train", "name": "dpo", "adapted": True, "memory": {"gradient_checkpointing": True}},
    "adapted-ppo": {"kind": "train", "name": "ppo", "adapted": True},
}
HALVED = {
    "halved": {"kind": "train", "name": "dpo", "adapted": True, "weights": "bf16"},
    "halved-ppo": {"kind": "train", "name": "ppo", "adapted": True, "weights": "bf16"},
    "halved-reward": {"kind": "train", "name": "reward-model", "weights": "bf16"},
}
"""Frozen weights in bfloat16."""
SHARING = {
    "hydra": {"kind": "train", "name": "ppo", "models": "hydra", "unfrozen_layers": 1},
    "lora": {"kind": "train", "name": "ppo", "models": "lora", "lora_rank": 2},
    "lora-reward": {"kind": "train", "name": "reward-model", "lora_rank": 2},
}
"""Models that share weights: FSDP2 cannot have them."""
MICRO = {
    "micro": {"kind": "train", "name": "ppo", "memory": {"micro_batch": 25}},
    "micro-rows": {"kind": "train", "name": "dpo", "memory": {"micro_batch": 1}},
    "micro-layers": {"kind": "train", "name": "grpo", "memory": {"micro_batch": 25, "gradient_checkpointing": True}},
    "micro-idle": {"kind": "train", "name": "sft", "batch_size": 1, "memory": {"micro_batch": 1}},
    "micro-adapted": {"kind": "train", "name": "ppo", "adapted": True, "memory": {"micro_batch": 1}},
}
MICRO_SHARING = {
    "micro-lora": {"kind": "train", "name": "ppo", "models": "lora", "lora_rank": 2, "memory": {"micro_batch": 1}},
    "micro-hydra": {
        "kind": "train",
        "name": "ppo",
        "models": "hydra",
        "unfrozen_layers": 1,
        "memory": {"micro_batch": 25, "gradient_checkpointing": True},
    },
}
BODY = {"name": "coreset"}
"""Reads the policy's body alone."""
OTHERS = {
    "idle": {"kind": "train", "name": "sft", "batch_size": 1},
    "spend": {"kind": "spend", "name": "dpo", "budget": 6e7},
    "dearer": {"kind": "dearer", "budget": 3e8},
    "moody": {"kind": "moody", "name": "grpo"},
    "judged": {"kind": "judged"},
}
UNDISTURBED = {"kind": "train", "name": "ppo", "updates": 4}
pytestmark = pytest.mark.slow
WAYS = ("ddp", "fsdp")
WHOLE = {
    "micro": "ppo",
    "micro-rows": "dpo",
    "micro-layers": "grpo",
    "micro-idle": "idle",
    "micro-adapted": "adapted-ppo",
    "micro-lora": "lora",
    "micro-hydra": "hydra",
}
"""The runs in micro-batches, and the same with whole batches."""
Told = dict[str, Any]
SCRIPT = Path(__file__).with_name("processes.py")
do = runpy.run_path(str(SCRIPT))["do"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def began(folder: Path, by: str, **more: Any) -> dict[str, Any]:
    return {"kind": "train", "name": "ppo", "updates": 3, "directory": str(folder / by), **more}


def went_on(folder: Path, of: str, **more: Any) -> dict[str, Any]:
    return {"kind": "train", "name": "ppo", "updates": 2, "directory": str(folder / of), **more}


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    """What one process did; its checkpoint is left for the others."""
    cases = {**TRAINED, **HALVED, **SHARING, **MICRO, **MICRO_SHARING, **OTHERS}
    found = {name: do(json.dumps(case)) for name, case in cases.items()}
    do(json.dumps(began(folder, "one")))
    do(json.dumps(began(folder, "one-adapted", adapted=True)))
    return {
        **found,
        "undisturbed": do(json.dumps(UNDISTURBED)),
        "undisturbed-adapted": do(json.dumps({**UNDISTURBED, "adapted": True})),
    }


def launched(output: Path, cases: dict[str, dict[str, Any]], **environment: str) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    texts = {name: json.dumps(case) for name, case in cases.items()}
    done = subprocess.run(
        [*launcher, str(SCRIPT), str(output), *texts.values()],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(Path(f"{output}.{rank}.json").read_text()) for rank in (0, 1)]
    return [{name: process[text] for name, text in texts.items()} for process in found]


@pytest.fixture(scope="module")
def ddp(one: Told, folder: Path) -> list[Told]:
    """The second run goes on from what the first left."""
    last = {"began": began(folder, "ddp"), "went on": went_on(folder, "one")}
    cases = {**TRAINED, **HALVED, **SHARING, **MICRO, **MICRO_SHARING, **OTHERS, **last}
    return launched(folder / "saw-ddp", cases)


@pytest.fixture(scope="module")
def fsdp(ddp: list[Told], folder: Path) -> list[Told]:
    refused = {name: {**case, "kind": "refused"} for name, case in {**SHARING, **MICRO_SHARING, "body": BODY}.items()}
    last = {
        "began": began(folder, "fsdp"),
        "went on": went_on(folder, "ddp"),
        "went on, adapted": went_on(folder, "one-adapted", adapted=True),
    }
    cases = {**TRAINED, **HALVED, **MICRO, **OTHERS, **refused, **last}
    return launched(folder / "saw-fsdp", cases, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def two(request: pytest.FixtureRequest, way: str) -> list[Told]:
    seen: list[Told] = request.getfixturevalue(way)
    return seen


def same(found: Told, expected: Told) -> None:
    """The same metrics of every update and the same weights, to float tolerance."""
    assert len(found["history"]) == len(expected["history"])
    for mine, theirs in zip(found["history"], expected["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    for kind in ("weights", "merged"):
        assert found[kind].keys() == expected[kind].keys()
        for name, weights in found[kind].items():
            assert weights == pytest.approx(expected[kind][name], rel=1e-4, abs=2e-6), name


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_as_one_does(one: Told, two: list[Told], name: str) -> None:
    same(two[0][name], one[name])


@pytest.mark.parametrize("name", HALVED)
def test_two_processes_keep_frozen_weights_in_bfloat16_and_learn_nearly_what_one_does(
    one: Told, two: list[Told], name: str
) -> None:
    found, expected = two[0][name], one[name]
    assert found["halves"] == expected["halves"] > 0.3
    for path, weights in found["merged"].items():
        assert weights == pytest.approx(expected["merged"][path], abs=0.02), path
    phases = [told["ledger"]["flops_by_role_phase"] for told in (found, expected)]
    for phase in phases[0].keys() - {"policy/sample"}:
        # In bfloat16 samples may differ, and be longer or shorter.
        assert phases[0][phase] == pytest.approx(phases[1][phase], rel=0.3 if "ppo" in name else 0), phase


@pytest.mark.parametrize("name", MICRO)
def test_two_processes_train_in_micro_batches_as_one_does_in_whole_batches(
    one: Told, two: list[Told], name: str
) -> None:
    same(one[name], one[WHOLE[name]])
    same(two[0][name], one[WHOLE[name]])


@pytest.mark.parametrize("name", MICRO_SHARING)
def test_ddp_trains_shared_weights_in_micro_batches_as_one_process_does_in_whole_batches(
    one: Told, ddp: list[Told], name: str
) -> None:
    same(one[name], one[WHOLE[name]])
    same(ddp[0][name], one[WHOLE[name]])
    assert one[name]["ledger"]["flops"] > one[WHOLE[name]]["ledger"]["flops"]


@pytest.mark.parametrize("name", SHARING)
def test_ddp_trains_models_that_share_weights_as_one_process_does(one: Told, ddp: list[Told], name: str) -> None:
    same(ddp[0][name], one[name])
    assert ddp[0][name]["ledger"]["parameter_bytes"] == one[name]["ledger"]["parameter_bytes"], "no longer shared"


@pytest.mark.parametrize("name", [*SHARING, *MICRO_SHARING, "body"])
def test_fsdp_says_what_cannot_be_shared(fsdp: list[Told], name: str) -> None:
    assert [process[name] for process in fsdp] == [fsdp[0][name]] * 2
    assert fsdp[0][name].startswith("FSDP2: ")
    assert "(DDP)" in fsdp[0][name]


@pytest.mark.parametrize("name", [*TRAINED, "spend", "dearer", "moody"])
def test_processes_see_the_same(two: list[Told], name: str) -> None:
    first, second = (dict(process[name]) for process in two)
    for process in (first, second):
        process["ledger"] = {key: value for key, value in process["ledger"].items() if key != "wall_seconds"}
        del process["share"]
    assert first == second


@pytest.mark.parametrize("name", TRAINED)
def test_flops_are_those_of_one_process_and_rows_are_counted_once(one: Told, two: list[Told], name: str) -> None:
    alone, together = one[name]["ledger"], two[0][name]["ledger"]
    sampled = {"policy/sample"}
    phases = alone["flops_by_role_phase"].keys() | together["flops_by_role_phase"].keys()
    for phase in phases - sampled:
        assert together["flops_by_role_phase"][phase] == alone["flops_by_role_phase"][phase], phase
    for phase in phases & sampled:
        # How long a row that has ended is computed along depends on its neighbours: a quarter of them at most.
        assert together["flops_by_role_phase"][phase] == pytest.approx(alone["flops_by_role_phase"][phase], rel=0.25)
    assert together["audit_ratio"] == pytest.approx(1.0, abs=0.02)
    counts = ("rows", "generated_tokens", "reward_queries", "optimizer_steps", "updates")
    assert {key: together[key] for key in counts} == {key: alone[key] for key in counts}


def test_all_stop_at_the_same_update_within_the_budget(one: Told, two: list[Told]) -> None:
    alone, together = one["spend"], [process["spend"] for process in two]
    assert [process["ledger"]["updates"] for process in together] == [alone["ledger"]["updates"]] * 2
    assert [process["ledger"]["flops"] for process in together] == [alone["ledger"]["flops"]] * 2
    assert alone["ledger"]["updates"] > 3
    same(together[0], alone)


def test_an_update_that_passes_the_budget_is_undone_on_all(one: Told, two: list[Told]) -> None:
    ledger = two[0]["dearer"]["ledger"]
    assert "discarded" in ledger["flags"][0]
    assert ledger["flops"] == one["dearer"]["ledger"]["flops"]
    # What is declared is of no process's own: 10, 20, 40, 80 million.
    assert ledger["declared"] == one["dearer"]["ledger"]["declared"] == 150_000_000
    assert len(two[0]["dearer"]["history"]) == ledger["updates"] + 1 == 5
    same(two[0]["dearer"], one["dearer"])


def test_each_process_holds_half_of_the_weights_under_fsdp_and_all_under_ddp(two: list[Told], way: str) -> None:
    shares = [process[name]["share"] for process in two for name in TRAINED]
    # The root of a frozen model, as in a ratio of two policies, stays whole after its forward pass.
    assert shares == pytest.approx([1.0 if way == "ddp" else 0.5] * len(shares), abs=0.03)
    if way == "fsdp":
        sft = two[0]["sft"]["ledger"]
        assert sft["training_bytes"] < 0.55 * 4 * 4 * sum(map(len, two[0]["sft"]["weights"].values()))


def test_a_process_without_rows_waits_for_the_other(one: Told, two: list[Told]) -> None:
    same(two[0]["idle"], one["idle"])


def test_a_reward_of_the_users_is_asked_once(two: list[Told]) -> None:
    assert two[0]["moody"]["history"][0]["score"] == two[1]["moody"]["history"][0]["score"]
    assert two[0]["moody"]["history"][0]["score"] > 0


def test_a_judge_says_the_same(one: Told, two: list[Told]) -> None:
    for process in two:
        for kind in ("word", "words"):
            for mine, theirs in zip(process["judged"][kind], one["judged"][kind], strict=True):
                assert mine == pytest.approx(theirs, rel=1e-5)
        assert process["judged"]["text"] == one["judged"]["text"]


def test_a_run_goes_on_with_another_number_of_processes(
    one: Told, ddp: list[Told], fsdp: list[Told], folder: Path
) -> None:
    # One process left its checkpoint to DDP, DDP to FSDP2, FSDP2 to one process.
    back = do(json.dumps(went_on(folder, "fsdp")))
    followed = [(found, one["undisturbed"]) for found in (ddp[0]["went on"], fsdp[0]["went on"], back)]
    followed.append((fsdp[0]["went on, adapted"], one["undisturbed-adapted"]))
    for found, undisturbed in followed:
        assert found["history"][0] == pytest.approx(undisturbed["history"][2], rel=1e-4, abs=1e-5)
        same({**found, "history": []}, {**undisturbed, "history": []})
        assert found["ledger"]["updates"] == 3
        assert found["ledger"]["optimizer_steps"] == one["undisturbed"]["ledger"]["optimizer_steps"]


def test_rows_with_the_same_prompt_stay_together_and_all_processes_get_about_as_much() -> None:
    a, b, c = ([1] * 10, [2] * 10, [3] * 4)
    rows = [(a, [5]), (b, [5, 6]), (c, [7]), (a, [8]), (c, [9] * 6)]
    # a 12 tokens, b 12, c 11: the largest first, each to whom has least.
    assert shares(rows, 2) == [[0, 2, 3, 4], [1]]
    assert shares(rows, 3) == [[0, 3], [1], [2, 4]]


def test_rows_that_share_nothing_are_divided_one_by_one() -> None:
    assert shares([([], [1]), ([], [1, 2]), ([], [1] * 3)], 2) == [[2], [0, 1]]


def test_fewer_prompts_than_processes_are_divided_by_row() -> None:
    assert shares([([1, 2], [3]), ([1, 2], [4]), ([1, 2], [5])], 2) == [[0, 2], [1]]
    assert shares([([1, 2], [3])], 3) == [[0], [], []]


def test_a_model_that_nobody_uses_any_more_is_gone() -> None:
    model = prepare_model(tiny_policy())
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
