"""Supervised fine-tuning passes the suite, and memorises what it is shown."""

import pytest
from zoo_sft.config import SFTConfig
from zoo_sft.train import train

from zoo_core.rows import Demonstration
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_run, tiny_session


class TestSFT(AlgorithmSuite):
    name = "sft"
    settings = {"batch_size": 8}


def test_one_demonstration_is_learnt_by_heart_down_to_where_it_stops():
    prompt = [{"role": "user", "content": "hi"}]
    answer = [{"role": "assistant", "content": "abc?"}]
    session = tiny_session(["demonstrations"], rows={"demonstrations": [Demonstration(prompt, answer, "row 0")]})
    run = Run(session)
    config = SFTConfig(batch_size=1, learning_rate=1e-2, epochs=60.0)
    losses = [metrics["loss"] for metrics in train(config, run)]
    assert losses[0] > 2.0
    assert losses[-1] < 0.05
    greedy = run.sample(session.encoder.prompts([prompt]), temperature=0.0)
    assert (greedy.samples[0].response, greedy.samples[0].ended) == ("abc?", True)


def test_epochs_bound_the_updates_and_part_of_a_pass_counts_as_begun():
    # 24 rows at 8 an update are 3 updates a pass; one pass and a half are 4.5, so 5.
    assert len(list(train(SFTConfig(batch_size=8, epochs=1.5), tiny_run(signals=["demonstrations"])))) == 5


@pytest.mark.parametrize("epochs", [0.0, -1.0])
def test_no_passes_at_all_are_refused(epochs):
    with pytest.raises(ValueError, match=f"epochs={epochs} must be above 0"):
        SFTConfig(epochs=epochs)
