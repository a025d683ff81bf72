"""The card of a trained model: the Hub can read it, it says what is true, and no name that a user chose is markup."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from transformers import AutoModelForCausalLM, AutoTokenizer
from zoo_harness.job import Job, read_json
from zoo_harness.jobs import card
from zoo_harness.payloads import Training
from zoo_harness.spec.schema import Spec

from zoo_core.accounting.ledger import Ledger
from zoo_core.models.directories import files_sha256, weights_sha256
from zoo_core.registry.plugins import plugins
from zoo_core.rows import Preference, fingerprint

ROWS = [Preference("a", "b", "c", "pairs.jsonl:1")]
HOSTILE = [
    "a: [b",
    "](javascript:alert(1))",
    "<script>alert(1)</script>",
    "```\n# mine\n````\n",
    "~~~",
    "x\n---\ntags: [theirs]\n---\n",
    "| a | b |",
    "${{ secrets }}",
    "\u202etxt\x00\x85\u2028",
    "half \ud83d",
    "!!python/object:os.system",
]


def written(folder: Path, algorithm: str = "dpo", settings: dict[str, Any] | None = None, **keys: Any) -> ModelCard:
    """Write the card of a made-up training; read it back."""
    payload = Training(spec=Spec(name="mine", **keys), algorithm=algorithm, settings=settings or {}, budget=1e9)
    job = Job(kind="train", title="mine", row=algorithm, directory=folder, identity="0", payload=payload.to_json())
    environment: Any = {"torch": "2", "transformers": "5", "python": "3"}
    result: Any = {"ledger": Ledger().report(), "environment": environment, "weights_sha256": "f00d"}
    card.write(folder, job, payload, plugins().algorithm(algorithm), {"preferences": ROWS}, result)
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"))


def facts(read: ModelCard) -> Any:
    """Return what the block of YAML at the end of a card says."""
    last = read.text.rstrip("\n").splitlines()[-1]
    return yaml.safe_load(read.text.rpartition(f"{last}yaml\n")[2].rstrip("\n").removesuffix(last))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_user_is_markup_and_it_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    plain = written(tmp_path, base="plain", preferences="plain", settings={"plain": "plain"})
    read = written(tmp_path, base=text, preferences=text, settings={text: text})
    assert read.data.to_dict() == plain.data.to_dict()
    before = read.text.partition("yaml\n")[0]
    assert before.rstrip("`") == plain.text.partition("yaml\n")[0].rstrip("`")
    fence = before[len(before.rstrip("`")) :]
    assert read.text.count(fence) == 2 + plain.text.partition("## What")[0].count(fence)
    if "\ud83d" not in text:  # half a character is no text, and is shown by its number
        assert facts(read)["base"] == text
        assert facts(read)["settings"] == {text: text}


def test_hub_ids_and_only_they_are_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = written(tmp_path, base="org/model", preferences="org/pairs#test", demonstrations="org/unread")
    assert read.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "org/model",
        "datasets": ["org/pairs"],
        "tags": ["rlhf-zoo", "dpo"],
    }
    (tmp_path / "org" / "model").mkdir(parents=True)
    for base in ("tinytown:base", "org/model", "./base", "org/--", "../b", "org/x.git"):
        assert "base_model" not in written(tmp_path, base=base).data.to_dict()


def test_a_reward_model_is_a_classifier(tmp_path: Path) -> None:
    read = written(tmp_path, algorithm="reward-model")
    assert read.data.pipeline_tag == "text-classification"
    assert "AutoModelForSequenceClassification" in read.text


def test_no_path_of_a_machine_is_published(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("")
    read = written(
        tmp_path,
        base=str(tmp_path / "base"),
        preferences=f"{tmp_path}/pairs.jsonl#test",
        settings={"constitution": str(tmp_path / "words.yaml")},
    )
    assert str(tmp_path) not in read.content
    assert facts(read)["data"]["preferences"] == {"from": "pairs.jsonl#test", "rows": 1, "sha256": fingerprint(ROWS)}
    assert facts(read)["settings"] == {"constitution": "words.yaml"}


@pytest.mark.slow
def test_a_trained_model_lies_where_it_was_wanted_with_a_true_card_and_loads(zoo: Any, world: Path, tmp_path: Path):
    command = ["train", "dpo", world / "spec.yaml", "--seed", "1", "--output", tmp_path / "out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.md").write_text("")
    refused = zoo(*command, "--model", "mine", cwd=tmp_path)
    assert refused.returncode == 2
    assert "would be lost" in refused.stderr
    assert not (tmp_path / "out").exists()

    done = zoo(*command, "--model", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model: model\nload it: AutoModelForCausalLM.from_pretrained('model')" in done.stdout
    model, cell = tmp_path / "model", tmp_path / "out" / "cells" / "dpo-seed1"
    assert AutoModelForCausalLM.from_pretrained(model).config.eos_token_id is not None
    assert AutoTokenizer.from_pretrained(model).chat_template
    result: Any = read_json(cell / "result.json")
    assert metadata_load(model / "README.md")["tags"] == ["rlhf-zoo", "dpo"]
    said = facts(ModelCard.load(model / "README.md"))
    assert said["weights_sha256"] == weights_sha256(model) == result["weights_sha256"]
    assert said["cost_with_stages"]["flops"] > result["ledger"]["flops"]
    assert said["data"]["preferences"]["rows"] == 32
    assert said["seed"] == 1

    named = files_sha256(model), weights_sha256(model)
    (model / "README.md").write_text("another")  # a base that is a trained model is the same base with another card
    assert (files_sha256(model), weights_sha256(model)) == named
