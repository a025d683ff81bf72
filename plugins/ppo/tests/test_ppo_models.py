"""The three arrangements of PPO's models compute the same and differ in the memory they take; rewards may be any."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.optim import AdamW
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from zoo_ppo.config import PPOConfig
from zoo_ppo.models import ARRANGEMENTS, freeze_trunk
from zoo_ppo.train import train

from zoo_core.errors import ModelError, SpecError
from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import load_policy, load_scorer, save_model
from zoo_core.models.lora import add_adapter
from zoo_core.models.scorer import Scorer
from zoo_core.reward import Calibration, Sample
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Prompt
from zoo_core.run import Run
from zoo_core.testing.suite import AlgorithmSuite
from zoo_core.testing.tiny import tiny_encoder, tiny_policy, tiny_session, tiny_tokenizer
from zoo_core.testing.witness import same_weights

SMALL = {"batch_size": 8, "minibatch_size": 4}
TEXTS = [("ab", "cab"), ("a", "b"), ("abcdef", "aaaa")]
BATCH = tiny_encoder().responses(TEXTS)
SHARING = ["hydra", "lora"]


class TestHydra(AlgorithmSuite):
    name = "ppo"
    settings = {**SMALL, "models": "hydra", "unfrozen_layers": 1}
    updates = 2.7
    adapts = False

    def test_adapters_of_the_spec_are_refused_with_the_remedy(self):
        session = self.session()
        add_adapter(session.policy, "policy", 2)
        with pytest.raises(SpecError, match="Set models: lora"):
            next(self.training(session))


class TestLoRA(AlgorithmSuite):
    name = "ppo"
    settings = {**SMALL, "models": "lora", "lora_rank": 2}
    updates = 2.7


def gpt2():
    torch.manual_seed(0)
    shape = {"vocab_size": 39, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=1, eos_token_id=2))


POLICIES = {"llama": tiny_policy, "tied": lambda: tiny_policy(tie_word_embeddings=True), "gpt2": gpt2}


def arranged(name, policy=None, temperature=0.7, **settings):
    """Return an arrangement with one layer or rank 2, the run it is of, and a full copy of the policy it began with."""
    session = tiny_session(["prompts", "reward"], policy=policy or tiny_policy(), **settings)
    full = copy.deepcopy(session.policy)
    config = PPOConfig(models=name, temperature=temperature, unfrozen_layers=1, lora_rank=2)
    run = Run(session)
    return ARRANGEMENTS[name](config, run), run, full


def steps(models, count=3):
    """Train on something that moves policy and critic."""
    optimizer = AdamW(models.parameters, lr=0.03)
    for _ in range(count):
        logprobs, values = models.evaluate(BATCH)
        optimizer.zero_grad()
        (logprobs.masked_fill(~BATCH.mask, 0.0).sum() + (values - 1).square().sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_the_reference_says_what_a_full_frozen_copy_says_before_and_after_the_policy_has_learnt(name, make):
    models, run, full = arranged(name, make())
    for _ in range(2):
        theirs = models.reference_logprobs(BATCH)
        assert not theirs.requires_grad
        with torch.no_grad():
            assert torch.equal(theirs, response_logprobs(full, BATCH, 0.7))
            moved = response_logprobs(run.policy, BATCH, 0.7) - theirs
        steps(models)
    assert moved[BATCH.mask].abs().max() > 0.1


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_what_is_sampled_from_is_what_is_evaluated(name, make):
    models, run, full = arranged(name, make())
    logprobs, values = models.evaluate(BATCH)
    torch.testing.assert_close(logprobs, response_logprobs(full, BATCH, 0.7))
    assert values.shape == (3, BATCH.mask.shape[1] + 1)
    assert values.abs().max() == 0
    steps(models)
    logprobs, values = models.evaluate(BATCH)
    torch.testing.assert_close(logprobs, response_logprobs(run.policy, BATCH, 0.7))
    torch.testing.assert_close(models.values(BATCH), values)
    assert values.std() > 1e-3


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_one_backward_trains_policy_and_critic_and_nothing_else(name, make):
    models, run, full = arranged(name, make())
    steps(models)
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in models.parameters)
    trained = {id(weight) for weight in models.parameters}
    assert len(trained) == len(models.parameters)
    before = dict(full.named_parameters())
    for path, weight in run.policy.named_parameters():
        if ".lora_" not in path:
            stays = torch.equal(weight, before[path.replace(".base_layer", "")])
            assert stays != (id(weight) in trained), path


def test_values_of_a_hydra_are_read_from_the_last_hidden_state_before_each_token():
    models, run, _ = arranged("hydra")
    steps(models)
    with torch.no_grad():
        hidden = run.policy.model(**BATCH.inputs).last_hidden_state
        expected = models.head(hidden[:, BATCH.prompt_length - 1 :]).squeeze(-1)
        torch.testing.assert_close(models.values(BATCH)[BATCH.slots], expected[BATCH.slots])
    assert not run.policy.lm_head._forward_pre_hooks


def test_a_hydra_trains_its_top_layers_the_final_norm_and_a_head_of_its_own():
    policy = tiny_policy(num_hidden_layers=3)
    freeze_trunk(policy, 2)
    frozen = {name for name, weight in policy.named_parameters() if not weight.requires_grad}
    assert {name.split(".layers.")[-1].split(".")[0] for name in frozen} == {"model", "0"}
    assert "model.embed_tokens.weight" in frozen
    assert policy.lm_head.weight.requires_grad
    tied = tiny_policy(tie_word_embeddings=True)
    freeze_trunk(tied, 2)
    assert not tied.lm_head.weight.requires_grad


def test_a_hydra_without_so_many_layers_is_refused():
    with pytest.raises(SpecError, match="unfrozen_layers=3 is more than the 2 layers"):
        freeze_trunk(tiny_policy(), 3)


def test_a_hydra_of_a_model_without_a_list_of_layers_is_refused():
    policy = tiny_policy()
    policy.model.layers = nn.Sequential(*policy.model.layers)
    with pytest.raises(ModelError, match="LlamaForCausalLM has no list of its 2 layers to divide"):
        freeze_trunk(policy, 1)


def scorer_of(policy, rank=None):
    """Return a reward model on a policy's body, whole or as an adapter on it, that tells texts apart."""
    model = scorer_from(policy, seed=1)
    if rank:
        add_adapter(model, "reward", rank)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return Scorer(model.eval().requires_grad_(False), tiny_tokenizer())


def report_of(name, reward, **settings):
    """Return the ledger after an update."""
    policy = tiny_policy(tie_word_embeddings=True)
    session = tiny_session(["prompts", "reward"], policy=policy, reward=reward(policy))
    config = PPOConfig(**SMALL, models=name, unfrozen_layers=1, lora_rank=2, **settings)
    training = train(config, Run(session))
    next(training)
    next(training)
    return session.ledger.report()


def test_models_resident_are_four_then_about_two_and_then_about_one(tmp_path):
    def alone(policy):
        return scorer_of(policy)

    def on_the_base(policy):
        save_model(scorer_of(policy, rank=2).model, tmp_path, apart=True)
        return Scorer(load_scorer(tmp_path), tiny_tokenizer())

    reports = [
        report_of("separate", alone),
        report_of("hydra", alone),
        report_of("lora", alone),
        report_of("lora", on_the_base),
    ]
    policy = tiny_policy(tie_word_embeddings=True)
    size = sum(weight.numel() for weight in policy.parameters())
    layer = sum(weight.numel() for weight in policy.model.layers[1].parameters())
    # Attention has four maps 32 -> 32, the rest three between 32 and 64; an adapter of rank 2 has 2 (in + out) weights.
    adapter = 2 * (4 * 2 * 64 + 3 * 2 * 96)
    value, score = 33, 32
    expected = [
        4 * size + value + score,
        2 * size + layer + 32 + value + score,
        2 * size + 2 * adapter + value + score,
        size + 3 * adapter + value + score,
    ]
    assert [report["parameter_bytes"] // 4 for report in reports] == expected
    assert [report["models_resident"] for report in reports] == [round(weights / size, 2) for weights in expected]
    # Gradients and two moments for what is trained, and a count of steps for each weight of it.
    trained = [2 * size + value, layer + 32 + value, 2 * adapter + value, 2 * adapter + value]
    for report, weights, some in zip(reports, expected, trained, strict=True):
        assert 0 <= report["training_bytes"] - 4 * (weights + 3 * some) < 4 * 150


def test_a_policy_that_learnt_as_an_adapter_is_handed_over_as_an_ordinary_model(tmp_path):
    models, run, full = arranged("lora")
    steps(models)
    save_model(run.policy, tmp_path)
    again = load_policy(tmp_path)
    torch.testing.assert_close(response_logprobs(again, BATCH), response_logprobs(run.policy, BATCH))
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in full.named_parameters()]


# The critic that starts as the reward model.


def with_critic(reward, calibration=None, **settings):
    session = tiny_session(["prompts", "reward"], reward=reward, **settings)
    session.calibration = calibration or Calibration(0.0, 1.0)
    run = Run(session)
    return ARRANGEMENTS["separate"](PPOConfig(critic="reward"), run), run


@pytest.mark.parametrize("rank", [None, 2], ids=["whole", "adapter"])
def test_a_critic_from_the_reward_model_values_the_end_of_a_text_at_its_reward(rank):
    models, run = with_critic(scorer_of(tiny_policy(), rank), Calibration(mean=0.3, deviation=0.05))
    with torch.no_grad():
        ends = models.values(BATCH).gather(1, BATCH.mask.sum(1, keepdim=True)).squeeze(1)
    scores = run.reward([Sample(prompt, response, ended=True) for prompt, response in TEXTS])
    torch.testing.assert_close(ends, scores, atol=1e-4, rtol=1e-4)
    assert scores.std() > 0.1


def test_a_critic_from_the_reward_model_is_trained_and_the_reward_model_is_not():
    scorer = scorer_of(tiny_policy())
    before = copy.deepcopy(scorer.model.state_dict())
    models, _ = with_critic(scorer)
    start = copy.deepcopy(models.values.state_dict())
    steps(models)
    assert same_weights(scorer.model, before)
    assert not any(torch.equal(weight, start[name]) for name, weight in models.values.named_parameters())


def bert():
    """Return a scorer of another architecture with another vocabulary, that tells the letters a and b apart."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=6, num_labels=1, max_position_embeddings=32, initializer_range=0.5, **shape)
    return Scorer(BertForSequenceClassification(config).eval().requires_grad_(False), fast)


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_a_reward_of_another_tokenizer_and_architecture_trains_any_arrangement(name):
    # A policy that knows the letters a to e only, so that some responses end and are scored.
    rows = {"prompts": [Prompt(text, text) for text in ("abc", "dea", "bb")]}
    session = tiny_session(["prompts", "reward"], policy=tiny_policy(vocab_size=12), rows=rows, reward=bert())
    training = train(PPOConfig(batch_size=12, models=name, unfrozen_layers=1, lora_rank=2), Run(session))
    history = [next(training) for _ in range(2)]
    assert history[0]["score"] != history[1]["score"]
    assert session.ledger.meter.cells["reward", "score"] > 0


@pytest.mark.parametrize(
    ("reward", "what"),
    [
        (bert, "its vocabulary of 6 tokens is another than the policy's of 39"),
        (lambda: scorer_of(tiny_policy(hidden_size=16)), "its body is a LlamaModel .* the policy's a LlamaModel"),
        (lambda: lambda samples: [0.0 for _ in samples], "the reward is a rule or a judge, not a scorer"),
    ],
    ids=["vocabulary", "shape", "rule"],
)
def test_a_critic_cannot_start_as_a_reward_that_reads_otherwise(reward, what):
    with pytest.raises(ModelError, match=f"{what}.* Use critic='policy'"):
        with_critic(reward())


@pytest.mark.parametrize("name", SHARING)
def test_a_critic_on_the_policys_layers_cannot_start_as_the_reward_model(name):
    with pytest.raises(ValueError, match=f"critic='reward' cannot be had with models='{name}'"):
        PPOConfig(models=name, critic="reward")


@pytest.mark.parametrize("setting", ["unfrozen_layers", "lora_rank"])
def test_nothing_to_train_is_refused(setting):
    with pytest.raises(ValueError, match=f"{setting}=0 must be 1 or more"):
        PPOConfig(**{setting: 0})
