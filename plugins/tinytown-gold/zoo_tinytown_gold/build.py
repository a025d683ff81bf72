"""Train the base model of a world from scratch, on the hardware that is there."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from zoo_tinytown.references import LAST_WRITTEN

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.compute.processes import accelerator
from zoo_core.compute.sharding import prepare_model
from zoo_core.errors import StorageError
from zoo_core.functional import masked_sum
from zoo_core.models.loading import save_model
from zoo_core.rollout import Responses, response_logprobs
from zoo_core.storage.atomic import give_ordinary_mode, write_text
from zoo_tinytown_gold.judgements import ERROR_RATE
from zoo_tinytown_gold.pretraining import documents
from zoo_tinytown_gold.tokenizer import CONTEXT, EOS, chat_prompt, make_tokenizer
from zoo_tinytown_gold.world import World

CHECKPOINT = "checkpoint.safetensors"


SIZES: dict[str, dict[str, Any]] = {
    "base": dict(hidden_size=128, intermediate_size=344, num_hidden_layers=3, num_attention_heads=4),
    "base-3m": dict(hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8),
}
"""The models that can be built: 0.6 M parameters, which all data of a world stand on, and 3.2 M."""


@dataclass(frozen=True)
class Recipe:
    """The settings of pretraining. The base model in this package was made with the defaults."""

    steps: int = 3000
    school: float = 0.6
    """Share of the steps, at the beginning, in which writers are careful; later they are the world's people."""
    documents: int = 32
    """Documents per step."""
    size: str = "base"
    """A key of `SIZES`."""
    learning_rate: float = 3e-3
    warmup: int = 100
    """Number of steps of linear warm-up, before a linear decay to zero."""
    weight_decay: float = 0.05
    checkpoint_seconds: float = 30.0


def build(world: World, directory: Path, recipe: Recipe, on_step: Callable[[int, float], None]) -> None:
    """Train the base model of a world and write it to a directory; an interrupted build goes on where it stopped."""
    torch.manual_seed(world.number)
    tokenizer = make_tokenizer(world)
    model = prepare_model(make_model(tokenizer, recipe.size))
    use_metered_attention()  # which takes packed rows
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / CHECKPOINT
    first = _resume(checkpoint, model, optimizer, world, recipe)
    loss, saved = 0.0, time.monotonic()
    for step in range(first, recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * _schedule(step, recipe)
        loss = _train_step(
            model,
            optimizer,
            encoded(tokenizer, ((user, answer) for _, user, answer in documents_of(world, step, recipe))),
        )
        on_step(step + 1, loss)
        if time.monotonic() - saved > recipe.checkpoint_seconds:
            _save(checkpoint, model, optimizer, world, recipe, step + 1)
            saved = time.monotonic()
    save_model(model, directory)
    tokenizer.save_pretrained(directory)
    write_text(directory / LAST_WRITTEN, json.dumps(_card(world, model, recipe, loss), indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)


def make_model(tokenizer: PreTrainedTokenizerFast, size: str = "base") -> LlamaForCausalLM:
    """Return an untrained base model of one of the `SIZES`."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            initializer_range=0.06,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **SIZES[size],
        )
    )


def encoded(tokenizer: PreTrainedTokenizerFast, pairs: Iterable[tuple[str, str]]) -> Responses:
    """Return user words and answers, each with its end, as the tokens of the chat form."""
    users, answers = zip(*pairs, strict=True)
    prompts = tokenizer([chat_prompt(user) for user in users]).input_ids
    responses = tokenizer([f"{answer} {EOS}" for answer in answers]).input_ids
    return Responses.of(list(zip(prompts, responses, strict=True)), tokenizer.pad_token_id, accelerator().device)


def _card(world: World, model: LlamaForCausalLM, recipe: Recipe, loss: float) -> dict[str, object]:
    kinds = Counter(kind for step in range(recipe.steps) for kind, _, _ in documents_of(world, step, recipe))
    return {
        "world": world.number,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "recipe": asdict(recipe),
        "final_loss": round(loss, 4),
        "pretraining_documents": dict(sorted(kinds.items())),
        "pretraining_judgements": kinds["judgement"],
        "judgement_error_rate": ERROR_RATE,
        "kind_words": world.lexicon.kind,
        "rude_words": world.lexicon.rude,
    }


def documents_of(world: World, step: int, recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield the documents of a step of a recipe: kind, user words, answer."""
    return documents(world, step, recipe.documents, school=step < recipe.school * recipe.steps)


def _schedule(step: int, recipe: Recipe) -> float:
    return min((step + 1) / recipe.warmup, (recipe.steps - step) / (recipe.steps - recipe.warmup + 1))


def _train_step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, batch: Responses) -> float:
    """Lower the mean negative log-likelihood of the answers' tokens; return it, in nats."""
    loss = -masked_sum(response_logprobs(model, batch), batch.mask).sum() / batch.mask.sum()
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _save(
    path: Path,
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    world: World,
    recipe: Recipe,
    step: int,
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"weight/{name}": parameter.detach(), f"first/{name}": state["exp_avg"]}
        tensors[f"second/{name}"] = state["exp_avg_sq"]
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, {"identity": _identity(world, recipe), "step": str(step)})
    give_ordinary_mode(temporary)
    os.replace(temporary, path)


def _resume(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, world: World, recipe: Recipe) -> int:
    """Load the checkpoint of an interrupted build, if there is one; return the step to go on with."""
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != _identity(world, recipe):
                raise StorageError(f"{path} belongs to another build. Remove it, or build into another directory.")
            step = int(metadata["step"])
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(file.get_tensor(f"weight/{name}"))
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(step)),
                        "exp_avg": file.get_tensor(f"first/{name}"),
                        "exp_avg_sq": file.get_tensor(f"second/{name}"),
                    }
    except SafetensorError as error:
        raise StorageError(f"{path} cannot be read ({error}). Remove it to build from the start.") from error
    return step


def _identity(world: World, recipe: Recipe) -> str:
    return json.dumps({"world": world.number, **asdict(recipe)}, sort_keys=True)
