"""The check of commit messages finds what CONTRIBUTING.md asks for."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("commits", Path(__file__).parent / "commits.py")
commits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(commits)


@pytest.mark.parametrize(
    ("subject", "body", "files", "expected"),
    [
        ("Say why", "", ["README.md"], []),
        ("x" * 60, "", ["harness/zoo_harness/live.py"], []),
        ("x" * 61, "", [], ["the subject has 61 characters"]),
        ("Clip", "Because.", ["plugins/reward-model/zoo_reward_model/loss.py"], []),
        ("Clip", " \n", ["plugins/reward-model/zoo_reward_model/loss.py"], ["there is no body"]),
        ("Count", "", ["zoo_core/accounting/meter.py"], ["there is no body"]),
        ("Test", "", ["plugins/ppo/tests/test_ppo_loss.py", "zoo_core/accounting/meters.py"], []),
    ],
)
def test_a_long_subject_and_a_missing_reason_are_found(subject, body, files, expected):
    found = list(commits.complaints(subject, body, files))
    assert len(found) == len(expected)
    assert all(complaint.startswith(start) for complaint, start in zip(found, expected, strict=True))
