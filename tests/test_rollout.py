"""Sampling with a cache is sampling without one; what it returns is what training reads back."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from zoo_core.compute import readers
from zoo_core.compute.sampler import choose, response_mask, sample_cached
from zoo_core.functional import token_logprobs
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_session

PAD, EOS = 0, 2
TEXTS = ["a", "abcdefgh", "ab c", "zz!"]


@pytest.fixture(scope="module")
def policy():
    """A policy sure enough to end now and then."""
    policy = tiny_policy()
    with torch.no_grad():
        policy.lm_head.weight *= 8
        policy.lm_head.weight[EOS] = policy.lm_head.weight[6:12].mean(0)
    return policy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(policy, prompts, length=6, temperature=1.0, seed=0):
    return sample_cached(
        policy, prompts, response_tokens=length, temperature=temperature, eos=EOS, pad=PAD, generator=generator(seed)
    )


@torch.no_grad()
def sample_plainly(policy, prompts, length, temperature, uniform):
    """Each row alone, everything computed again at each token: the first token whose cumulative probability passes."""
    rows = []
    for ids, real, numbers in zip(prompts.tokens, prompts.attention, uniform, strict=True):
        tokens = ids[real]
        for number in numbers[:length]:
            probabilities = (policy(tokens.unsqueeze(0)).logits[0, -1] / temperature).softmax(-1)
            total, token = 0.0, -1
            while total <= number:
                token += 1
                total += probabilities[token].item()
            tokens = torch.cat([tokens, torch.tensor([token])])
            if token == EOS:
                break
        answer = tokens[int(real.sum()) :].tolist()
        rows.append(answer + [PAD] * (length - len(answer)))
    longest = max(length - row.count(PAD) for row in rows)
    return torch.tensor(rows)[:, :longest]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("packed", [True, False])
def test_neither_cache_nor_neighbours_change_a_sampled_token(policy, temperature, packed, monkeypatch):
    # Thirty rows, each prompt several times, most of them ended before the last: rows leave, and the cache is copied.
    # It grows twice.
    monkeypatch.setattr(readers, "BLOCK", 5)
    if not packed:
        monkeypatch.setattr(readers, "packs", lambda _: False)
    prompts = tiny_encoder().prompts([*TEXTS, *TEXTS * 5, "b", "abcdefgh", "cc cc c", "b", "a", "zz!"])
    tokens, _ = sample(policy, prompts, length=12, temperature=temperature)
    ended = (tokens == EOS).any(1).float().mean()
    assert 0 < ended < 1
    uniform = torch.rand(12, len(prompts), generator=generator())
    assert torch.equal(tokens, sample_plainly(policy, prompts, 12, temperature, uniform.T))


def test_a_token_is_drawn_as_often_as_it_is_likely():
    logits = torch.tensor([0.1, 0.0, 0.6, 0.3]).log().expand(20_000, 4)
    tokens, logprobs = choose(logits, torch.rand(20_000, generator=generator()), 1.0)
    frequencies = tokens.bincount(minlength=4) / 20_000
    assert_close(frequencies, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.015, rtol=0)  # 4 standard deviations
    assert_close(logprobs, logits[0, tokens])


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_no_number_draws_a_token_without_probability(number):
    logits = torch.tensor([[0.0, 0.3, 0.2, 0.0]]).log()
    tokens, _ = choose(logits.expand(64, 4), torch.full((64,), number), 1.0)
    assert set(tokens.tolist()) == {1 if number == 0 else 2}


def test_logprobs_are_those_that_training_reads_back(policy):
    encoder = tiny_encoder()
    prompts = encoder.prompts(TEXTS)
    for temperature in (0.7, 1.0):
        tokens, logprobs = sample(policy, prompts, temperature=temperature)
        mask = response_mask(tokens, EOS)
        again = response_logprobs(policy, Responses.join(prompts, tokens, mask), temperature)
        assert_close(again[mask], logprobs[mask], atol=1e-5, rtol=0)


def test_temperature_zero_is_greedy_with_logprobs_at_one(policy):
    prompts = tiny_encoder().prompts(TEXTS)
    tokens, logprobs = sample(policy, prompts, temperature=0.0, seed=1)
    assert torch.equal(tokens, sample(policy, prompts, temperature=0.0, seed=2)[0])
    with torch.no_grad():
        mask = response_mask(tokens, EOS)
        joined = Responses.join(prompts, tokens, mask)
        logits = policy(**joined.inputs).logits[:, joined.prompt_length - 1 : -1]
    assert torch.equal(logits.argmax(-1)[mask], tokens[mask])
    assert_close(token_logprobs(logits, tokens)[mask], logprobs[mask], atol=1e-5, rtol=0)


def test_a_row_that_ended_stays_padded_with_logprob_zero(policy):
    prompts = tiny_encoder().prompts(TEXTS * 8)
    tokens, logprobs = sample(policy, prompts, length=12)
    mask = response_mask(tokens, EOS)
    ended = (tokens == EOS).any(1)
    assert ended.any()
    assert not ended.all()
    assert (tokens[~mask] == PAD).all()
    assert (logprobs[~mask] == 0).all()
    assert ((tokens == EOS).sum(1) <= 1).all()


def test_sampling_stops_as_soon_as_every_row_has_ended(policy):
    with torch.no_grad():
        eager = tiny_policy()
        eager.lm_head.weight.zero_()
    eager.lm_head.register_forward_hook(lambda *_: torch.nn.functional.one_hot(torch.tensor([[EOS]]), 37) * 99.0)
    tokens, _ = sample(eager, tiny_encoder().prompts(["a"]), length=6)
    assert tokens.tolist() == [[EOS]]


def test_a_mask_is_true_up_to_and_with_the_first_eos():
    tokens = torch.tensor([[5, EOS, PAD, PAD], [EOS, 5, EOS, 5], [5, 5, 5, 5]])
    assert response_mask(tokens, EOS).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_sampling_frequencies_follow_the_policy():
    policy, prompts = tiny_policy(), tiny_encoder().prompts(["ab"] * 4000)
    with torch.no_grad():
        policy.lm_head.weight *= 20
        expected = policy(prompts.tokens[:1]).logits[0, -1].softmax(-1)
    tokens, _ = sample(policy, prompts, length=1)
    seen = torch.bincount(tokens[:, 0], minlength=len(expected)) / len(tokens)
    # The standard deviation of a share is below √(.25/4000) = .008; four of them.
    assert_close(seen, expected, atol=0.032, rtol=0)


def test_a_rollout_tells_texts_ends_and_masks_of_the_same_tokens(policy):
    session = tiny_session(("prompts",), policy=policy, encoder=tiny_encoder(response_tokens=12))
    run = Run(session)
    rollout = run.sample(run.prompts.batch(0, 24))
    assert rollout.ended.any()
    assert not rollout.ended.all()
    for row, sample_ in enumerate(rollout.samples):
        kept = rollout.responses[row][rollout.mask[row]].tolist()
        assert sample_.response == session.encoder.decode(kept)
        assert sample_.ended == bool(rollout.ended[row]) == (kept[-1] == EOS)
    assert session.ledger.generated_tokens == rollout.mask.sum()
    part = rollout[torch.tensor([3, 1])]
    assert [sample_.response for sample_ in part.samples] == [rollout.samples[3].response, rollout.samples[1].response]
    assert torch.equal(part.logprobs, rollout.logprobs[[3, 1]])
    assert torch.equal(part.ended, rollout.ended[[3, 1]])


def test_two_draws_of_one_update_differ_and_each_repeats(policy):
    def draws():
        run = Run(tiny_session(("prompts",), policy=policy))
        for update in run.updates(1):
            return [run.sample(run.prompts.batch(update, 8)).tokens.tolist() for _ in range(2)]

    first = draws()
    assert first[0] != first[1]
    assert draws() == first


def test_token_rows_that_are_known_are_those_that_are_read_back(policy):
    encoder, some = tiny_encoder(), torch.tensor([2, 0])
    prompts = encoder.prompts(TEXTS).repeat(2)
    tokens, _ = sample(policy, prompts)
    joined = Responses.join(prompts, tokens, response_mask(tokens, EOS))
    taught = encoder.responses([(text, "abc") for text in TEXTS])
    for batch in (joined, joined[some], taught, taught[some]):
        assert batch.given is not None
        assert list(batch.rows) == list(replace(batch, given=None).rows)
    for batch in (prompts, prompts[some]):
        assert [list(row) for row, _ in batch.rows] == [list(row) for row, _ in replace(batch, given=None).rows]
