"""Loading tokenizers that have the special tokens that training and scoring need."""

from pathlib import Path

from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from zoo_core.errors import ModelError, in_one_line
from zoo_core.models.weights import SAFE


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a policy. It must have an EOS token, and a pad token that differs from EOS."""
    tokenizer = _load_tokenizer(path)
    for name in ("eos", "pad"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            without = "no response could ever end." if name == "eos" else "batches cannot be padded."
            raise ModelError(
                f"{path}: the tokenizer has no {name.upper()} token, so {without} {how_to_add(name, path)}"
            )
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ModelError(
            f"{path}: the tokenizer pads with its EOS token ({tokenizer.eos_token!r}), so a masked pad would mask the "
            f"end of a response and models would never learn to stop. {how_to_add('pad', path)}"
        )
    return tokenizer


def load_scorer_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a scorer. It must have a pad token."""
    tokenizer = _load_tokenizer(path)
    if tokenizer.pad_token_id is None:
        advice = how_to_add("pad", path, "AutoModelForSequenceClassification")
        raise ModelError(f"{path}: the scorer's tokenizer has no pad token, so batches cannot be padded. {advice}")
    return tokenizer


def how_to_add(name: str, path: object, auto: str = "AutoModelForCausalLM") -> str:
    """Return advice, with code to run, that adds a special token to a tokenizer and its embedding to a model."""
    new = f"{path}-{name}"
    return (
        f"Add one to tokenizer and model, once, and name the new directory ({new}). In Python: `"
        f"from transformers import {auto}, AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained({str(path)!r}); "
        f"model = {auto}.from_pretrained({str(path)!r}); "
        f'tokenizer.add_special_tokens({{"{name}_token": "<|{name}|>"}}); '
        "model.resize_token_embeddings(max(len(tokenizer), model.config.get_text_config().vocab_size)); "
        f"model.config.{name}_token_id = tokenizer.{name}_token_id; "
        f"tokenizer.save_pretrained({new!r}); model.save_pretrained({new!r})`"
    )


def _load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **SAFE)
        tokenizer("a")  # some faults of a configuration show only here
    except Exception as error:  # transformers and tokenizers raise anything on files that they did not write
        why = in_one_line(error)
        raise ModelError(f"{path}: the tokenizer cannot be loaded: {why}") from error
    return tokenizer
