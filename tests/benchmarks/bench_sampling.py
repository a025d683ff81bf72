"""Sampling with the engine that a bench uses by default, beside `model.generate`: tokens a second, in turns.

The same model, prompts of unequal lengths padded on the left, temperature 1 without top-k or top-p. Tokens are counted
up to and including EOS: what a row samples behind it is nobody's gain.
"""

import time

import pytest
import torch
from materials import (
    BASE,
    NEW_TOKENS,
    REAL,
    SHORT_PROMPT_TOKENS,
    encoder,
    engine,
    read_pairs,
    session,
    write_pairs,
)
from measure import spread

from zoo_core.compute.sampler import response_mask
from zoo_core.models.loading import load_policy
from zoo_core.run import Run

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")


@pytest.mark.parametrize("rows", [64, 256])
def test_sampling_beside_generate(rows, tmp_path, benchmark, record, repetitions, threads):
    write_pairs(tmp_path / "pairs.jsonl", SHORT_PROMPT_TOKENS, rows)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    prompts = encoder(SHORT_PROMPT_TOKENS, NEW_TOKENS).prompts([pair.prompt for pair in pairs])
    tokenizer, sampler = encoder().tokenizer, engine()
    metered, plain = load_policy(BASE), load_policy(BASE)
    Run(session(metered, ["prompts"], pairs))  # attaches the meter, as in training

    def ours(seed):
        tokens, _ = sampler(
            metered,
            prompts,
            response_tokens=NEW_TOKENS,
            temperature=1.0,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            generator=torch.Generator().manual_seed(seed),
        )
        return tokens

    @torch.no_grad()
    def theirs(seed):
        torch.manual_seed(seed)
        whole = plain.generate(
            input_ids=prompts.tokens,
            attention_mask=prompts.attention.long(),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return whole[:, prompts.tokens.shape[1] :]

    def rate(sample, seed):
        began, used = time.perf_counter(), time.process_time()
        tokens = sample(seed)
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        count = response_mask(tokens, tokenizer.eos_token_id).sum().item()
        return count / wall, count / cpu, count

    rate(ours, 0), rate(theirs, 0)
    turns = []
    benchmark.pedantic(
        lambda: turns.append((rate(ours, len(turns) + 1), rate(theirs, len(turns) + 1))), rounds=repetitions
    )
    record(
        "sampling",
        str(rows),
        speed=spread([mine[0] / other[0] for mine, other in turns]),
        speed_of_processors=spread([mine[1] / other[1] for mine, other in turns]),
        tokens={"ours": spread([mine[2] for mine, _ in turns]), "generate": spread([other[2] for _, other in turns])},
    )
