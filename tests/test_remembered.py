"""What is remembered is what the model says, asked once."""

import torch
from torch.testing import assert_close

from zoo_core.functional import masked_sum
from zoo_core.models.cached_logprobs import CachedLogprobs
from zoo_core.rollout import response_logprobs
from zoo_core.testing.tiny import tiny_encoder, tiny_policy

ANSWERS = [("ab", "ba"), ("ab", "c"), ("c", "ba"), ("ab", "ba")]


def test_it_is_what_the_model_says_whatever_was_asked_before_and_however_it_was_padded():
    policy, encoder = tiny_policy().requires_grad_(False), tiny_encoder()
    remembered = CachedLogprobs(policy, {})
    remembered(encoder.responses([*ANSWERS[1:3], ("a long prompt", "and a longer answer")]))
    answers = encoder.responses(ANSWERS)
    assert_close(remembered(answers), masked_sum(response_logprobs(policy, answers), answers.mask))


def test_what_is_known_is_not_asked_again_also_where_it_was_only_read_from_a_checkpoint():
    policy, encoder = tiny_policy().requires_grad_(False), tiny_encoder()
    known = {}
    said = CachedLogprobs(policy, known)(encoder.responses(ANSWERS))
    assert len(known) == 3  # one of the four stands there twice
    again = CachedLogprobs(tiny_policy(vocab_size=3), dict(known))(encoder.responses(ANSWERS[::-1]))  # knows no letter
    assert torch.equal(again, said.flip(0))
