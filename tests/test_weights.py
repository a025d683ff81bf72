"""Nothing is loaded whose weights do not fit, and every error says what to do about it, in lines that work."""

import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
)

from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import ModelError
from zoo_core.models.copies import scorer_from
from zoo_core.models.loading import load_policy, load_policy_with, load_scorer, save_model
from zoo_core.models.lora import add_adapter
from zoo_core.models.tokenizers import load_scorer_tokenizer, load_tokenizer
from zoo_core.models.weights import check_fit, put
from zoo_core.registry.references import resolve
from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer


@pytest.fixture
def base(tmp_path):
    """The directory of a tiny policy."""
    tiny_policy().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def scorer(tmp_path):
    """The directory of a tiny scorer."""
    scorer_from(tiny_policy(), 0).save_pretrained(tmp_path / "scorer")
    tiny_tokenizer().save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def change(directory, **weights):
    """Put weights into a directory's file by name; None takes one out."""
    file = directory / "model.safetensors"
    state = load_file(file) | {name: weight for name, weight in weights.items() if weight is not None}
    save_file(
        {name: weight for name, weight in state.items() if weights.get(name, 0) is not None}, file, {"format": "pt"}
    )


def code_in(error):
    """What stands between backticks in a message; the terminal shows it in one line."""
    (code,) = re.findall("`(.*)`", str(error))
    return code


def test_a_scorer_whose_head_has_another_name_is_refused_by_both_names(scorer):
    change(scorer, **{"score.weight": None, "value_head.weight": torch.ones(1, 32)})
    with pytest.raises(ModelError, match=r"missing: score\.weight; left over: value_head\.weight.*Rename") as caught:
        load_scorer(scorer)
    assert str(scorer) in str(caught.value)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_base_that_lacks_a_weight_is_refused_by_its_name(base, name):
    change(base, **{name: None})
    with pytest.raises(ModelError, match=f"missing: {re.escape(name)}"):
        load_policy(base)


def test_a_base_with_a_weight_too_many_is_refused_by_its_name(base):
    change(base, **{"model.layers.7.mlp.up_proj.weight": torch.ones(2)})
    with pytest.raises(ModelError, match=r"left over: model\.layers\.7\.mlp\.up_proj\.weight"):
        load_policy(base)


def test_a_weight_of_another_shape_is_refused_with_both_shapes(scorer):
    change(scorer, **{"score.weight": torch.ones(3, 32)})
    with pytest.raises(ModelError, match=r"of another shape: score\.weight \(\(3, 32\) in the file, \(1, 32\) in"):
        load_scorer(scorer)


def test_of_many_weights_a_message_names_a_few_and_counts_the_rest():
    with pytest.raises(ModelError, match="missing: w0, w1, w2 and 37 more;"):
        check_fit(tiny_policy(), "here", [f"w{number}" for number in range(40)][:3] + ["x"] * 37, ["y"], [])


def test_nothing_is_printed_about_weights_that_are_refused(base, capfd):
    change(base, **{"lm_head.weight": None, "more": torch.ones(2)})
    with pytest.raises(ModelError):
        load_policy(base)
    assert capfd.readouterr() == ("", "")


def test_a_language_model_is_no_scorer(base):
    with pytest.raises(ModelError, match=r"missing: score\.weight; left over: lm_head\..*This is a language"):
        load_scorer(base)


def test_a_scorer_is_no_base(scorer):
    with pytest.raises(ModelError, match=r"left over: score\.weight.*This is a scorer where"):
        load_policy(scorer)


def test_a_scorer_has_one_output(tmp_path):
    config = tiny_policy().config
    config.num_labels = 3
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="one output, this one has 3"):
        load_scorer(tmp_path)


@pytest.mark.parametrize("kept", ["model.embed_tokens.weight", "lm_head.weight"])
def test_of_tied_weights_one_is_enough(tmp_path, kept):
    model = tiny_policy(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    change(tmp_path, **{"model.embed_tokens.weight": None, "lm_head.weight": None, kept: model.lm_head.weight.data})
    for loaded in (load_policy(tmp_path), load_policy_with(tmp_path, tmp_path)):
        assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    put(tiny_policy(tie_word_embeddings=True), load_file(tmp_path / "model.safetensors"), tmp_path)


def test_weights_that_are_tied_to_each_other_only_are_missing(tmp_path):
    tiny_policy(tie_word_embeddings=True).save_pretrained(tmp_path)
    change(tmp_path, **{"model.embed_tokens.weight": None})
    with pytest.raises(ModelError, match=r"missing: lm_head\.weight, model\.embed_tokens\.weight"):
        load_policy(tmp_path)


def test_buffers_that_older_files_hold_are_not_left_over(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=2, n_positions=16))
    model.save_pretrained(tmp_path)
    state = {name.removeprefix("transformer."): w for name, w in load_file(tmp_path / "model.safetensors").items()}
    state["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_policy(tmp_path).transformer.wte.weight, model.transformer.wte.weight)


def mixtral(directory):
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=40, num_key_value_heads=2, num_local_experts=3, **shape))
    model.save_pretrained(directory)
    return model


def test_a_mixture_that_lacks_one_expert_is_refused(tmp_path):
    mixtral(tmp_path)
    change(tmp_path, **{"model.layers.0.block_sparse_moe.experts.1.w1.weight": None})
    with pytest.raises(ModelError, match=r"cannot be put together.*experts\.gate_up_proj"):
        load_policy(tmp_path)


def test_weights_go_into_a_base_under_the_names_that_they_have_in_files(tmp_path):
    base, trained = mixtral(tmp_path / "base"), mixtral(tmp_path / "trained")
    loaded = load_policy_with(tmp_path / "trained", tmp_path / "base")
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in trained.state_dict().items())
    assert not torch.equal(base.lm_head.weight, loaded.lm_head.weight)


def test_a_cells_weights_must_fit_the_base(base, tmp_path):
    tiny_policy(hidden_size=16).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="of another shape") as caught:
        load_policy_with(tmp_path / "other", base)
    assert str(caught.value).startswith(str(tmp_path / "other"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        load_policy_with(tmp_path / "empty", base)


def test_a_shard_that_is_not_there_is_named(base):
    tiny_policy().save_pretrained(base, max_shard_size="10KB")
    (base / "model.safetensors").unlink()
    load_policy(base)
    gone = sorted(base.glob("model-0*"))[1]
    gone.unlink()
    for load in (load_policy, lambda path: load_policy_with(path, path), lambda path: resolve(str(path))):
        with pytest.raises(ModelError, match=f"not there: {gone.name}"):
            load(base)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}'])
def test_an_index_that_is_none_is_refused(base, content):
    (base / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match="not an index of weights"):
        load_policy(base)


def test_weights_that_are_cut_are_refused(base):
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged or cut"):
        load_policy(base)


@pytest.mark.parametrize(
    "content", ["{", "[]", "", '{"model_type": "no such thing"}', '{"model_type": "llama", "vocab_size": "x"}']
)
def test_a_config_that_is_none_is_refused(base, content):
    (base / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_policy(base)


@pytest.mark.parametrize(
    "weights", [{"score.weight": None}, {"more": torch.ones(2)}, {"score.weight": torch.ones(2, 32)}]
)
def test_a_scorer_with_its_adapter_apart_is_as_strict(tmp_path, weights):
    model = scorer_from(tiny_policy(), 0)
    add_adapter(model, "lora", 2)
    save_model(model, tmp_path, apart=True)
    load_scorer(tmp_path)
    change(tmp_path, **weights)
    with pytest.raises(ModelError, match="weights do not fit"):
        load_scorer(tmp_path)


def test_an_adapters_settings_beside_weights_without_one_are_refused(base):
    (base / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="0 adapters instead of one"):
        load_policy(base)


def adapter_of(base, directory):
    """Save a random adapter beside its base."""
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    torch.nn.init.normal_(model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight)
    model.save_pretrained(directory)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_advice_on_an_adapter_makes_the_model_it_stands_for(base, tmp_path):
    adapter_of(base, tmp_path / "adapter")
    for whole in (False, True):
        if whole:  # some trainers write the base's config beside an adapter
            (tmp_path / "adapter" / "config.json").write_text((base / "config.json").read_text())
        with pytest.raises(ModelError, match=f"LoRA adapter of {re.escape(str(base))}") as caught:
            resolve(str(tmp_path / "adapter"))
    exec(code_in(caught.value))
    merged = load_policy(tmp_path / "adapter-merged")
    assert not torch.equal(
        merged.model.layers[0].self_attn.q_proj.weight, load_policy(base).model.layers[0].self_attn.q_proj.weight
    )
    load_tokenizer(tmp_path / "adapter-merged")


def tokenizer_that(pads):
    """A tokenizer with no pad token, whether in its vocabulary or not, or one that pads with EOS."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = {"not": None, "with EOS": tokenizer.eos_token}[pads]
    return tokenizer


@pytest.mark.parametrize("pads", ["not", "with EOS"])
def test_the_advice_on_padding_makes_a_policy_that_loads(base, pads):
    tokenizer_that(pads).save_pretrained(base)
    with pytest.raises(ModelError, match="pad") as caught:
        load_tokenizer(base)
    exec(code_in(caught.value))
    mended = Path(f"{base}-pad")
    tokenizer, policy = load_tokenizer(mended), load_policy(mended)
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id < policy.config.vocab_size == len(policy.get_input_embeddings().weight)
    before = load_policy(base).get_input_embeddings().weight
    assert torch.equal(policy.get_input_embeddings().weight[: len(before)], before)


def test_the_advice_on_a_scorers_padding_makes_a_scorer_that_loads(scorer):
    tokenizer_that("not").save_pretrained(scorer)
    with pytest.raises(ModelError, match="no pad token") as caught:
        load_scorer_tokenizer(scorer)
    exec(code_in(caught.value))
    mended = Path(f"{scorer}-pad")
    assert load_scorer_tokenizer(mended).pad_token_id < load_scorer(mended).config.vocab_size


def test_the_advice_on_a_token_beyond_the_embedding_makes_a_policy_that_loads(base):
    probe = pytest.importorskip("zoo_harness.jobs.probe")

    def encoder(path):
        return Encoder(load_tokenizer(path), 8, 4, torch.device("cpu"))

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    tokenizer.save_pretrained(base)
    with pytest.raises(ModelError, match="beyond the model's") as caught:
        probe._check_special_tokens(str(base), encoder(base), load_policy(base))
    exec(code_in(caught.value))
    mended = Path(f"{base}-pad")
    probe._check_special_tokens(str(mended), encoder(mended), load_policy(mended))
