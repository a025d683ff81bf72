"""The checks of an algorithm that train nothing: of its record, its configuration and its search space."""
# ruff: noqa: D102  # the name of a test is the sentence

import ast
import dataclasses
import inspect
import subprocess
import sys
import textwrap
from itertools import pairwise
from typing import ClassVar

from zoo_core.records import LEARNING_RATES, Algorithm
from zoo_core.registry.plugins import plugins
from zoo_core.registry.spaces import space_of


class RecordSuite:
    """The part of the suite of an algorithm that looks at what it declares."""

    name: ClassVar[str]

    @property
    def record(self) -> Algorithm:
        """The record of the algorithm."""
        return plugins().algorithm(self.name)

    def test_every_setting_is_documented(self) -> None:
        config = self.record.load_config()
        owners = [kind for kind in config.__mro__ if dataclasses.is_dataclass(kind)]
        parsed = [ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0] for kind in owners]
        documented = {
            field.target.id
            for owner in parsed
            if isinstance(owner, ast.ClassDef)
            for field, text in pairwise(owner.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and text.value.value
        }
        assert {field.name for field in dataclasses.fields(config)} == documented
        assert config.__dataclass_params__.frozen  # type: ignore[attr-defined]

    def test_its_search_space_has_learning_rates_alike_and_holds_its_defaults(self) -> None:
        space = space_of(self.record.load_config(), self.name)
        rates = [values for setting, values in space.items() if setting.endswith("learning_rate")]
        assert all(values == LEARNING_RATES for values in rates)

    def test_it_is_listed_without_importing_anything_heavy(self) -> None:
        code = (
            "import sys; from zoo_core.registry.plugins import plugins; "
            f"assert {self.name!r} in plugins().algorithms; "
            "print(*{'torch', 'transformers', 'numpy', 'pydantic', 'jaxtyping'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == ("", "")
