"""Adapters on a frozen base, weights that models share, and the memory that the ledger says they take."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from zoo_core.accounting.ledger import Ledger, bytes_of
from zoo_core.errors import ModelError
from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import load_policy, load_scorer, save_model
from zoo_core.models.lora import adapter, add_adapter, merged_weights, share_storage, unadapted
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_session
from zoo_core.testing.witness import same_weights, weights

TOKENS = torch.randint(6, 37, (3, 11), generator=torch.Generator().manual_seed(0))


def gpt2():
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=1, eos_token_id=2))


def stirred(parameters, seed=0):
    """Change weights, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in parameters:
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))


def two_adapters(model):
    """Return the model with two stirred adapters, "two" being the one that is on."""
    for seed, name in enumerate(("one", "two")):
        stirred(add_adapter(model, name, rank=2), seed)
    return model


@torch.no_grad()
def out(model):
    return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("make", [tiny_policy, gpt2])
def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(make):
    plain, model = make(), make()
    added = add_adapter(model, "one", rank=3)
    assert torch.equal(out(model), out(plain))
    assert [weight for weight in model.parameters() if weight.requires_grad] == added
    layers = 2 * (7 if make is tiny_policy else 4)  # of the body, the head is none of them
    assert len(added) == 2 * layers
    assert {3} == {min(weight.shape) for weight in added}


def test_an_adapter_adds_twice_its_product():
    plain, model = tiny_policy(), tiny_policy()
    stirred(add_adapter(model, "one", rank=2))
    layer = model.model.layers[0].mlp.down_proj
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    product = layer.lora_B["one"].weight @ layer.lora_A["one"].weight
    expected = x @ (plain.model.layers[0].mlp.down_proj.weight + 2 * product).T
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("make", [tiny_policy, gpt2])
def test_one_adapter_computes_at_a_time_and_none_of_them_is_the_base(make):
    model, base = two_adapters(make()), out(make())
    two = out(model)
    with adapter(model, "one"):
        one = out(model)
    with adapter(model, None):
        assert torch.equal(out(model), base)
    assert torch.equal(out(model), two)
    for left, right in ((one, two), (one, base), (two, base)):
        assert (left - right).abs().max() > 1e-3
    alone = make()
    stirred(add_adapter(alone, "one", rank=2), seed=0)
    assert torch.equal(out(alone), one)


def test_adapters_that_were_on_by_turns_all_get_gradients_from_one_backward():
    model = tiny_policy()
    parameters = [weight for name in ("one", "two") for weight in add_adapter(model, name, rank=2)]
    stirred(parameters)
    for weight in parameters:
        weight.requires_grad_(True)
    loss = model(input_ids=TOKENS).logits.square().mean()
    with adapter(model, "one"):
        loss = loss + model(input_ids=TOKENS).logits.square().mean()
    with adapter(model, None), torch.no_grad():
        model(input_ids=TOKENS)
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in parameters)
    assert all(weight.grad is None for name, weight in model.named_parameters() if ".lora_" not in name)


def test_the_adapter_before_is_on_again_after_an_error():
    model = two_adapters(tiny_policy())
    before = out(model)
    with pytest.raises(ZeroDivisionError), adapter(model, "one"):
        raise ZeroDivisionError
    assert torch.equal(out(model), before)


@pytest.mark.parametrize(
    "make", [tiny_policy, lambda: tiny_policy(tie_word_embeddings=True), gpt2], ids=["llama", "tied", "gpt2"]
)
def test_a_policy_is_written_as_an_ordinary_model_and_stays_what_it_is(make, tmp_path):
    model = two_adapters(make())
    before, computed = weights(model), out(model)
    save_model(model, tmp_path)
    again = load_policy(tmp_path)
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in make().named_parameters()]
    torch.testing.assert_close(out(again), computed)
    assert same_weights(model, before)
    assert torch.equal(out(model), computed)


def test_merged_weights_of_a_model_without_adapters_are_its_own():
    model = tiny_policy()
    merged = merged_weights(model)
    assert same_weights(model, merged)


def scorer_on(policy):
    """Return a scorer that is an adapter and a head on the policy's body."""
    scorer = scorer_from(policy, seed=0)
    stirred(add_adapter(scorer, "reward", rank=2))
    return scorer


def test_a_scorer_keeps_its_adapter_apart_and_comes_back_bit_by_bit(tmp_path):
    scorer = scorer_on(tiny_policy())
    save_model(scorer, tmp_path, apart=True)
    again = load_scorer(tmp_path)
    assert torch.equal(out(again), out(scorer))
    assert not any(weight.requires_grad for weight in again.parameters())
    with pytest.raises(FileNotFoundError, match="adapter_model"):  # and not as the base with a head, without a word
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_a_scorer_whose_weights_are_not_those_of_its_settings_is_refused(tmp_path):
    save_model(scorer_on(tiny_policy()), tmp_path, apart=True)
    settings = tmp_path / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"r": 2', '"r": 3'))
    with pytest.raises(ModelError, match="of another shape"):
        load_scorer(tmp_path)


def test_a_scorer_on_the_base_of_a_policy_takes_no_memory_for_it(tmp_path):
    policy = tiny_policy()
    save_model(scorer_on(policy), tmp_path, apart=True)
    scorer = load_scorer(tmp_path)
    stirred(add_adapter(policy, "policy", rank=2))
    scores, own = out(scorer), bytes_of(scorer.parameters())
    before = bytes_of([*policy.parameters(), *scorer.parameters()])
    share_storage(scorer, policy)
    after = bytes_of([*policy.parameters(), *scorer.parameters()])
    kept = sum(weight.nbytes for name, weight in scorer.named_parameters() if ".lora_" in name or "score" in name)
    assert before - after == own - kept
    assert torch.equal(out(scorer), scores)


def test_weights_that_differ_or_that_are_trained_are_not_shared():
    policy = tiny_policy().requires_grad_(False)
    scorer = scorer_from(policy, seed=0).requires_grad_(False)
    with torch.no_grad():
        scorer.model.norm.weight[0] += 1e-6
    policy.model.embed_tokens.requires_grad_(True)
    scorer.model.layers[0].mlp.up_proj.requires_grad_(True)
    share_storage(scorer, policy)
    theirs = dict(policy.model.named_parameters())
    apart = [name for name, one in scorer.model.named_parameters() if one.data_ptr() != theirs[name].data_ptr()]
    assert apart == ["embed_tokens.weight", "layers.0.mlp.up_proj.weight", "norm.weight"]


def test_a_reference_shares_what_is_frozen_and_copies_the_rest():
    session = tiny_session(["prompts"], policy=tiny_policy(tie_word_embeddings=True))
    run = Run(session)
    run.policy.model.embed_tokens.requires_grad_(False)
    run.policy.model.layers[0].requires_grad_(False)
    full = copy.deepcopy(run.policy)
    reference = run.reference()
    ours = dict(run.policy.named_parameters())
    shared = {name for name, one in reference.named_parameters() if one is ours[name]}
    assert shared == {name for name, one in ours.items() if not one.requires_grad}
    assert 0 < len(shared) < len(ours)
    assert reference.lm_head.weight is run.policy.model.embed_tokens.weight
    stirred(weight for weight in run.policy.parameters() if weight.requires_grad)
    assert torch.equal(out(reference), out(full))
    assert not any(weight.requires_grad for weight in reference.parameters())


def test_the_ledger_counts_shared_memory_once_and_what_training_adds():
    policy = tiny_policy(tie_word_embeddings=True)
    size = sum(weight.nbytes for weight in policy.parameters())  # a tied head is no parameter of its own
    other = scorer_from(policy, seed=0)
    ledger = Ledger(policy_bytes=size)
    optimizer = torch.optim.AdamW(policy.parameters())
    ledger.note_models([policy, policy], [optimizer])
    assert (ledger.parameter_bytes, ledger.training_bytes) == (size, size)
    policy(input_ids=TOKENS).logits.sum().backward()
    optimizer.step()
    ledger.note_models([policy, other], [optimizer])
    head = 32 * 4
    counts = len(list(policy.parameters())) * 4  # AdamW counts the steps of each weight
    assert ledger.parameter_bytes == 2 * size + head
    assert ledger.training_bytes == 2 * size + head + 3 * size + counts
    ledger.note_models([policy], [])
    assert ledger.parameter_bytes == 2 * size + head
    report = ledger.report()
    assert report["models_resident"] == round(2 + head / size, 2)
    again = Ledger()
    again.load_state_dict(ledger.state_dict())
    assert again.report() == report


def test_a_run_is_measured_at_the_end_of_each_update():
    session = tiny_session(["prompts"])
    run = Run(session)
    optimizer = run.keep("optimizer", torch.optim.AdamW(run.policy.parameters()))
    run.reference()
    batch = tiny_encoder().prompts(["ab", "c"])
    for _ in run.updates(most=1):
        run.policy(input_ids=batch.tokens).logits.sum().backward()
        optimizer.step()
        assert session.ledger.parameter_bytes == 0
    size = bytes_of(session.policy.parameters())
    assert session.ledger.policy_bytes == size
    assert session.ledger.parameter_bytes == 2 * size
    assert session.ledger.training_bytes > 5 * size
    assert session.ledger.report()["models_resident"] == 2.0


def test_a_model_whose_adapter_was_put_into_its_weights_computes_the_same_and_has_none():
    model = tiny_policy()
    stirred(add_adapter(model, "one", 2, alpha=8, targets=["q_proj", "down_proj"]))
    tokens = torch.tensor([[3, 4, 5]])
    before = model(input_ids=tokens).logits
    assert {path.split(".lora_")[0].rsplit(".", 1)[-1] for path, _ in model.named_parameters() if ".lora_" in path} == {
        "q_proj",
        "down_proj",
    }
    assert unadapted(model).state_dict().keys() == tiny_policy().state_dict().keys()
    torch.testing.assert_close(model(input_ids=tokens).logits, before)


def test_alpha_over_rank_is_how_strong_an_adapter_is():
    weak, strong = tiny_policy(), tiny_policy()
    for model, alpha in ((weak, 2), (strong, 6)):
        torch.manual_seed(0)
        stirred(add_adapter(model, "one", 2, alpha=alpha))
    plain, (one, three) = tiny_policy().state_dict(), (merged_weights(model) for model in (weak, strong))
    for name, weight in plain.items():
        torch.testing.assert_close(three[name] - weight, 3 * (one[name] - weight))


def test_dropout_of_an_adapter_is_of_passes_with_a_gradient_only():
    model = tiny_policy().train()
    stirred(add_adapter(model, "one", 2, dropout=0.5))
    tokens = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, model(input_ids=tokens).logits)
    assert not torch.equal(model(input_ids=tokens).logits, model(input_ids=tokens).logits)
    model.eval()
    assert torch.equal(model(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_layers_that_are_not_there_are_named_beside_those_that_are():
    with pytest.raises(
        ModelError, match=r"has no qkv; it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_pr"
    ):
        add_adapter(tiny_policy(), "one", 2, targets=["q_proj", "qkv"])
