"""The constitution: a YAML file with the questions for a judge and their wording. Users edit it.

Answers are judged by `principles`; each has a question for every form that it can be asked in. `forms` are the texts
around the questions: {question} is replaced by the principle's question, and {prompt}, {first}, {second}, {answer} and
{critique} by the texts that are judged. `constitution.yaml` beside this file is the default if neither the user nor the
judge brings one; its comments explain every key.
"""

import string
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from zoo_core.errors import SpecError
from zoo_core.rows import Message, Text
from zoo_core.storage.yaml_files import read_yaml

SHIPPED = Path(__file__).parent / "constitution.yaml"
FormName = Literal["comparison", "rating", "critique", "revision"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Principle(_Strict):
    """A principle that answers are judged by. It is drawn only for forms that it has a question for."""

    name: str
    comparison: str | None = None
    rating: str | None = None
    critique: str | None = None
    revision: str | None = None


class Reasoning(_Strict):
    """Chain of thought before the answer, and how certain the label may be after it."""

    ask: str
    conclude: str
    tokens: int = Field(128, ge=1)
    clamp: tuple[Share, Share] = (0.4, 0.6)

    @field_validator("clamp")
    @classmethod
    def _ordered(cls, clamp: tuple[float, float]) -> tuple[float, float]:
        if clamp[0] > clamp[1]:
            raise ValueError(f"{list(clamp)} must be [lowest, highest]")
        return clamp


class Example(_Strict):
    """An example: a question as the judge reads it, and the right answer."""

    ask: str
    answer: str


class Form(_Strict):
    """The text around the question of a principle."""

    needed: ClassVar[frozenset[str]]
    allowed: ClassVar[frozenset[str]]

    ask: str
    examples: tuple[Example, ...] = ()

    @field_validator("ask")
    @classmethod
    def _shows_what_is_judged(cls, ask: str) -> str:
        found = {name for _, name, _, _ in string.Formatter().parse(ask) if name is not None}
        if cls.needed - found:
            raise ValueError(f"{{{min(cls.needed - found)}}} is missing: the judge would not see it")
        if found - cls.allowed:
            known = ", ".join(f"{{{name}}}" for name in sorted(cls.allowed))
            raise ValueError(f"{{{min(found - cls.allowed)}}} stands for nothing here; there are {known}")
        return ask


class Comparison(Form):
    """The form that asks which of two answers is better."""

    needed = frozenset({"question", "first", "second"})
    allowed = needed | {"prompt"}

    answers: tuple[str, str]
    reasoning: Reasoning | None = None


class Rating(Form):
    """The form that asks how good one answer is. The possible ratings are listed from worst to best."""

    needed = frozenset({"question", "answer"})
    allowed = needed | {"prompt"}

    answers: tuple[str, ...] = Field(min_length=2)


class Critique(Form):
    """The form that asks what is wrong with an answer."""

    needed = frozenset({"question", "answer"})
    allowed = needed | {"prompt"}

    tokens: int = Field(128, ge=1)


class Revision(Form):
    """The form that asks for a better answer."""

    needed = frozenset({"question", "answer"})
    allowed = needed | {"prompt", "critique"}

    tokens: int = Field(256, ge=1)


class Forms(_Strict):
    """The forms of questions. A constitution may leave out those that an algorithm does not use."""

    comparison: Comparison | None = None
    rating: Rating | None = None
    critique: Critique | None = None
    revision: Revision | None = None


class Constitution(_Strict):
    """Principles, and the forms of the questions about them."""

    asked_as: Literal["conversation", "text"] = "conversation"
    principles: tuple[Principle, ...] = Field(min_length=1)
    forms: Forms

    @classmethod
    def load(cls, path: str | Path | None, *needed: FormName) -> "Constitution":
        """Read a file, or the constitution of this package; `SpecError` names the file and the wrong or missing key."""
        path = Path(path or SHIPPED)
        try:
            found = cls.model_validate(read_yaml(path))
        except SpecError as error:
            raise SpecError(f"constitution: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            key, what = ".".join(map(str, first["loc"])) or "top level", first["msg"].removeprefix("Value error, ")
            raise SpecError(f"constitution: {path}: {key}: {what}. See {SHIPPED}.") from None
        for form in needed:
            if getattr(found.forms, form) is None:
                raise SpecError(f"constitution: {path}: forms.{form} is missing, and this algorithm asks in that form.")
            if not found.asked(form):
                raise SpecError(f"constitution: {path}: principles: none has a question under `{form}:`.")
        if found.asked("critique") and found.forms.critique is None:
            raise SpecError(f"constitution: {path}: forms.critique is missing, but principles have critiques.")
        return found

    def asked(self, form: FormName) -> list[Principle]:
        """Return the principles that have a question for a form."""
        return [principle for principle in self.principles if getattr(principle, form) is not None]

    def question(self, form: FormName, principle: Principle, **judged: str) -> Text:
        """Return the question to the judge, with the examples first."""
        words: Form = getattr(self.forms, form)
        asked = words.ask.format(question=getattr(principle, form), **judged)
        if self.asked_as == "text":
            return "\n\n".join([*(example.ask + example.answer for example in words.examples), asked])
        turns: list[Message] = []
        for example in words.examples:
            turns += [{"role": "user", "content": example.ask}, {"role": "assistant", "content": example.answer}]
        return [*turns, {"role": "user", "content": asked}]

    def tokens(self, form: Literal["critique", "revision"]) -> int:
        """Return the largest number of tokens that the judge may write."""
        words: Critique | Revision = getattr(self.forms, form)
        return words.tokens


def continued(question: Text, answer: str, ask: str) -> Text:
    """Return a question with the judge's answer to it, and the next question."""
    if isinstance(question, str):
        return f"{question}{answer}\n{ask}"
    return [*question, {"role": "assistant", "content": answer}, {"role": "user", "content": ask}]


def plain(text: Text) -> str:
    """Return a prompt as one string for a judge, with the role of each message if there are several."""
    if isinstance(text, str):
        return text
    if len(text) == 1:
        return text[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in text)


def jsonable(text: Text) -> str | list[dict[str, str]]:
    """Return a prompt in the form that checkpoints and files of rows can hold."""
    return text if isinstance(text, str) else [dict(message) for message in text]
