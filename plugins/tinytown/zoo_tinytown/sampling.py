"""Sample answers from a base model, for the gates."""

from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from zoo_tinytown.tokenizer import chat_prompt

MAX_NEW_TOKENS = 44


@dataclass(frozen=True)
class Answer:
    """One sampled answer, as the gold reward reads it."""

    prompt: str
    response: str
    ended: bool


@torch.inference_mode()
def sample(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    temperature: float,
    *,
    seed: int = 0,
    batch: int = 128,
) -> list[Answer]:
    """Answer each prompt once, greedily at temperature 0, in batches of prompts of like length."""
    torch.manual_seed(seed)
    choice = {"do_sample": False} if temperature == 0 else dict(do_sample=True, temperature=temperature, top_k=0)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].split()))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        tokens = tokenizer([chat_prompt(prompts[i]) for i in places], padding=True, return_tensors="pt")
        ids = model.generate(  # type: ignore[misc]
            tokens.input_ids, attention_mask=tokens.attention_mask, max_new_tokens=MAX_NEW_TOKENS, **choice
        )[:, tokens.input_ids.shape[1] :]
        for i, row in zip(places, ids, strict=True):
            ended = bool((row == tokenizer.eos_token_id).any())
            answers[i] = Answer(prompts[i], str(tokenizer.decode(row, skip_special_tokens=True)), ended)
    return [answers[i] for i in range(len(prompts))]
