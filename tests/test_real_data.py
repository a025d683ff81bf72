"""Real data: a model, conversations, film reviews and a BERT scorer that were not made for these tests."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from zoo_core.datasets.encoding import Encoder
from zoo_core.models.loading import load_policy
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_all, load_reward, load_rows
from zoo_core.reward import Calibration, Sample, as_sample, checked
from zoo_core.run import Run
from zoo_core.session.session import Session

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")


@pytest.fixture(scope="module")
def encoder():
    return Encoder(load_tokenizer(REAL / "base"), prompt_tokens=400, response_tokens=48, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def sentiment():
    return load_reward(str(REAL / "sentiment"))


def rows(name, kind, encoder, limit=64):
    loaded = load_rows(str(REAL / f"{name}.jsonl"), kind, 0, limit)
    return [row for row in loaded if encoder.fits(row.prompt, row.where)]


def test_every_row_of_every_file_can_be_read_and_the_types_agree():
    for name, kind in [
        ("demonstrations", "demonstrations"),
        ("preferences", "preferences"),
        ("prompts", "prompts"),
        ("arithmetic", "demonstrations"),
        ("review_prompts", "prompts"),
        ("reviews", "demonstrations"),
    ]:
        lines = (REAL / f"{name}.jsonl").read_bytes().count(b"\n")
        assert len(load_all(str(REAL / f"{name}.jsonl"), kind, 0)) == lines
    chosen = [row.chosen for row in load_all(str(REAL / "preferences.jsonl"), "preferences", 0)]
    assert chosen == [row.completion for row in load_all(str(REAL / "demonstrations.jsonl"), "demonstrations", 0)]


def test_conversations_survive_encoding_and_decoding(encoder):
    for row in rows("demonstrations", "demonstrations", encoder):
        ids = encoder.response(row.prompt, row.completion, row.where)
        said = row.completion[0]["content"]
        assert said.startswith(encoder.decode(ids)) or encoder.decode(ids) in said
        assert (ids[-1] == encoder.tokenizer.eos_token_id) == (len(ids) < 48 or encoder.decode(ids) == said)


def test_the_scorer_tells_praise_from_blame_in_its_own_vocabulary(sentiment):
    good, bad = sentiment(
        [
            Sample("this film is ", "a moving, beautifully acted triumph.", True),
            Sample("this film is ", "dull and bad.", True),
        ]
    )
    assert good - bad > 1.0


def test_a_reward_of_three_lines_tells_right_from_wrong_sums_by_the_answer_column():
    def correct(samples):
        return [float(sample.response.endswith(f"#### {sample.row['answer']}")) for sample in samples]

    rows = load_all(str(REAL / "arithmetic.jsonl"), "demonstrations", 0)
    right = [as_sample(row.prompt, row.completion, row.columns) for row in rows]
    others = [as_sample(row.prompt, row.completion, other.columns) for row, other in pairwise(rows)]
    assert set(checked(correct, right)) == {1.0}
    equal = [row.columns["answer"] == other.columns["answer"] for row, other in pairwise(rows)]
    assert checked(correct, others) == equal
    assert sum(equal) < len(equal) / 10


@pytest.mark.parametrize(
    ("name", "files", "settings"),
    [
        ("sft", {"demonstrations": "demonstrations"}, {"batch_size": 4}),
        ("dpo", {"preferences": "preferences"}, {"batch_size": 4}),
        ("reward-model", {"preferences": "preferences"}, {"batch_size": 4}),
        ("ppo", {"prompts": "review_prompts"}, {"batch_size": 8, "minibatch_size": 8, "epochs": 1}),
    ],
)
def test_an_update_on_real_data_is_finite(encoder, sentiment, name, files, settings):
    record = plugins().algorithm(name)
    session = Session(
        policy=load_policy(REAL / "base"),
        encoder=encoder,
        seed=0,
        budget=1e15,
        rows={kind: rows(file, kind, encoder) for kind, file in files.items()},
        reward=sentiment if "reward" in record.learns_from else None,
        calibration=Calibration(0.0, 1.0) if "reward" in record.learns_from else None,
    )
    training = record.load_train()(record.load_config()(**settings), Run(session))
    metrics = next(training)
    training.close()
    assert torch.tensor(list(metrics.values())).isfinite().all()
    assert session.ledger.optimizer_steps == 1
    if name == "sft":
        assert 0.5 < metrics["loss"] < 5.0  # nats per token of a model that has seen the rows; ln 4096 = 8.3
