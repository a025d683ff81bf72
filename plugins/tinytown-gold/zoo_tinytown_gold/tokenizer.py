"""The tokenizer of a world: one token per word, and an ordinary chat template."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from zoo_tinytown_gold.world import World

PAD, BOS, EOS, UNK, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<unk>", "<|user|>", "<|assistant|>"
SPECIALS = (PAD, BOS, EOS, UNK, USER, ASSISTANT)
CONTEXT = 256
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "<|user|>{{ message['content'] }}{% else %}"
    "<|assistant|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a world: words between single spaces, and `<unk>` for unknown words."""
    words = [*SPECIALS, *world.lexicon.words()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )


def chat_prompt(user: str) -> str:
    """Return the text of a prompt as the base model was trained on it, special tokens written out."""
    return f"{BOS}{USER}{user}{ASSISTANT}"
