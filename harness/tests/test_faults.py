"""Whatever is wrong with an input, the plan says so in a message of ours: a generator breaks a good one at random."""

import json
import os
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from zoo_harness.executors.inline import Inline
from zoo_harness.jobs.worker import import_beside
from zoo_harness.planning.estimate import budget_of, figures
from zoo_harness.planning.pipeline import Pipeline
from zoo_harness.planning.plan import Plan
from zoo_harness.probing import Waiting, probed
from zoo_harness.spec.read import read
from zoo_harness.spec.schema import Evaluation, Limits, Spec

from zoo_core.errors import ZooError

EVERY_DAY = 40
EXAMPLES = int(os.environ.get("ZOO_FAULTS", EVERY_DAY))
"""Broken inputs that are tried; `ZOO_FAULTS=1000` tries others than those of every day."""

NUMBERS = st.one_of(
    st.integers(-3, 70), st.floats(-10, 100), st.sampled_from([float("nan"), float("inf"), 1e300, 2**70])
)
WORDS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(
        ["", " ", "user", "assistant", "<eos>", "{{ x }}", "preferences", "../x", "~", "a:b", "judge:x", "[red]"]
    ),
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "x"]), "content": PLAIN}
)
VALUES = st.recursive(
    st.one_of(PLAIN, MESSAGE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=2)),
    max_leaves=4,
)
DATA = ["demos.jsonl", "pairs.jsonl", "prompts.jsonl"]
FIELDS = ["prompt", "completion", "chosen", "rejected", "messages", "text"]
OF_BASE = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
CONFIG = [
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "eos_token_id",
    "pad_token_id",
    "model_type",
]
CONFIG += [
    "architectures",
    "max_position_embeddings",
    "tie_word_embeddings",
    "torch_dtype",
    "hidden_act",
    "rope_parameters",
]
TOKENIZER = [
    "eos_token",
    "pad_token",
    "bos_token",
    "unk_token",
    "model_max_length",
    "tokenizer_class",
    "extra_special_tokens",
]
TEMPLATES = [
    "",
    "{{ messages[5].content }}",
    "{% for m in messages %}{{ m.content }}",
    "{{ 1 // 0 }}",
    "{{ nothing.at.all }}",
    "{{ raise_exception('no') }}",
    "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
    "{{ messages }}",
    "{{ messages | length }}",
    "{{ range(3) | tojson }}{{ strftime_now(5) }}",
    "{{ messages[0]['content'] + 1 }}",
]
REWARDS = [
    "raise KeyError('x')",
    "return None",
    "return [None] * len(samples)",
    "return ['a'] * len(samples)",
    "return 5",
    "return [1.0]",
    "return {}",
    "return [float('inf')] * len(samples)",
    "return [[1.0]] * len(samples)",
    "return (s.x for s in samples)",
    "import sys; sys.exit(3)",
    "return [10**400] * len(samples)",
    "assert False",
]
TASK = [
    "task",
    "dataset_path",
    "dataset_kwargs",
    "output_type",
    "test_split",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
]
TASK += ["num_fewshot", "metric_list", "process_results", "filter_list"]
SPEC_KEYS = sorted(
    {
        *Spec.model_fields,
        *(f"limits.{k}" for k in Limits.model_fields),
        *(f"evaluation.{k}" for k in Evaluation.model_fields),
    }
)
SETTINGS = ["batch_size", "learning_rate", "beta", "row", "reward", "name", "epochs", "nonsense"]


def set_in(values: dict[str, Any], key: str, value: object) -> None:
    head, _, tail = key.partition(".")
    if tail:
        inner = values.get(head)
        values[head] = {**(inner if isinstance(inner, dict) else {}), tail: value}
    else:
        values[head] = value


def break_spec(draw: Any, world: Path) -> None:
    values = yaml.safe_load((world / "spec.yaml").read_text())
    if draw(st.booleans()):
        set_in(values, draw(st.sampled_from(SPEC_KEYS)), draw(VALUES))
    else:
        values["algorithms"] = [
            "sft",
            {"name": draw(st.sampled_from(["sft", "dpo"])), draw(st.sampled_from(SETTINGS)): draw(VALUES)},
        ]
    (world / "spec.yaml").write_text(
        yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", errors="surrogatepass"
    )


def break_row(draw: Any, world: Path) -> None:
    file = world / draw(st.sampled_from(DATA))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for _ in range(draw(st.sampled_from([1, 150]))):  # one here and there, or the habit of a whole file
        row = rows[draw(st.integers(0, len(rows) - 1))]
        row[draw(st.sampled_from(FIELDS))] = draw(VALUES)
        if draw(st.booleans()):
            row.pop(draw(st.sampled_from(FIELDS)), None)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def break_bytes(draw: Any, world: Path) -> None:
    names = [
        *DATA,
        "spec.yaml",
        "spell.yaml",
        "spell.jsonl",
        "judge.py",
        *(f"base/{name}" for name in [*OF_BASE, "model.safetensors", "chat_template.jinja"]),
    ]
    file = world / draw(st.sampled_from(names))
    whole = file.read_bytes()
    place = draw(st.integers(0, len(whole)))
    file.write_bytes(
        whole[:place] + draw(st.binary(max_size=4)) + whole[place + draw(st.sampled_from([0, 1, 7, 10**6])) :]
    )


def break_base(draw: Any, world: Path) -> None:
    name = draw(st.sampled_from([*OF_BASE[:3], "gone"]))
    if name == "gone":
        (world / "base" / draw(st.sampled_from([*OF_BASE, "model.safetensors", "chat_template.jinja"]))).unlink(
            missing_ok=True
        )
        return
    file = world / "base" / name
    values = json.loads(file.read_text())
    values[draw(st.sampled_from(TOKENIZER if name == "tokenizer_config.json" else CONFIG))] = draw(VALUES)
    file.write_text(json.dumps(values))


def break_template(draw: Any, world: Path) -> None:
    (world / "base" / "chat_template.jinja").write_text(draw(st.sampled_from(TEMPLATES)))


def break_reward(draw: Any, world: Path) -> None:
    code = f"def f(samples):\n    {draw(st.sampled_from(REWARDS))}\n"
    (world / "broken.py").write_text(draw(st.sampled_from([code, code, "1 / 0", "def f(:", "f = 3"])))
    values = yaml.safe_load((world / "spec.yaml").read_text())
    key = draw(st.sampled_from(["reward", "gold", "preferences"]))
    values[key] = {"annotator": "broken:f", "pairs": 16} if key == "preferences" else "broken:f"
    (world / "spec.yaml").write_text(yaml.safe_dump(values))


def break_task(draw: Any, world: Path) -> None:
    values = yaml.safe_load((world / "spell.yaml").read_text())
    values[draw(st.sampled_from(TASK))] = draw(st.one_of(VALUES, st.sampled_from(["{{nothing.x}}", "{{ 1 // 0 }}"])))
    (world / "spell.yaml").write_text(yaml.safe_dump(values), errors="surrogatepass")


KINDS = [break_spec, break_row, break_bytes, break_base, break_template, break_reward, break_task]


def plan(world: Path) -> None:
    """What `zoo plan` does, in this process."""
    spec = read(world / "spec.yaml", None, {})
    import_beside(spec)
    pipeline, found = probed(Pipeline.of(spec), world / "out", Inline(), lambda device: 1, Waiting())
    figures(Plan(pipeline, found, budget_of(spec, found), world / "out", world / "cache"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_broken_input_passes_or_is_refused_in_our_words(world, tmp_path_factory):
    failures: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES == EVERY_DAY,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.data())
    def tried(data: Any) -> None:
        folder = copy_of(world, tmp_path_factory.mktemp("broken"))
        for kind in data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2)):
            # The fault before may have left nothing of this kind to break.
            with suppress(ValueError, yaml.YAMLError, FileNotFoundError, AttributeError, TypeError):
                kind(data.draw, folder)
        path = list(sys.path)
        try:
            plan(folder)
        except ZooError:
            shutil.rmtree(folder)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failures.append(f"{folder}: {type(error).__name__}: {error}")
        finally:
            sys.path[:] = path
            for name in ("broken", "judge"):
                sys.modules.pop(name, None)

    tried()
    assert failures == []


def copy_of(world: Path, folder: Path) -> Path:
    shutil.copytree(world, folder, dirs_exist_ok=True)
    values = yaml.safe_load((folder / "spec.yaml").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump({**values, "algorithms": ["sft", "dpo"], "seeds": 1}))
    (folder / "spell.yaml").write_text((folder / "spell.yaml").read_text().replace(str(world), str(folder)))
    return folder
