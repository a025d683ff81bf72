"""What plugins import keeps its signatures, unless a change of tests/front_door.txt says so."""

import importlib.util
from difflib import ndiff
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("front_door", Path(__file__).parent / "front_door.py")
front_door = importlib.util.module_from_spec(spec)
spec.loader.exec_module(front_door)

SOURCE = '''
from elsewhere import Imported

Alias = list["Thing"]
SIZE = 3
NAMED: dict[str, int] = {}
_PRIVATE = 1

def _private(): ...
def function(a, /, b: int = 1, *rest: str, c: "Thing | None" = None, **more: float) -> Iterator[int]: ...
def only_by_name(*, c: int) -> None: ...

@dataclass(frozen=True)
class Thing(Base):
    """A thing."""

    second: str
    first: int = field(default_factory=int)
    _hidden: int = 0

    def __init__(self) -> None:
        self.given: list[int] = []
        self.bare = self._held = 1

    @property
    def width(self) -> int: ...
    def method(self) -> "Thing": ...
    def _method(self) -> None: ...
'''


def test_the_front_door_is_as_it_was_frozen():
    changes = [line for line in ndiff(front_door.FROZEN.read_text().splitlines(), front_door.live()) if line[0] in "-+"]
    if changes:
        told = (
            "What plugins import has changed (- frozen, + now). If that is meant, write it to zoo_core/CHANGELOG.md, "
            "raise API_VERSION where plugins must be changed to go on working, and freeze it anew:"
        )
        pytest.fail("\n".join([told, front_door.RENEW, *changes]), pytrace=False)


def test_public_names_are_listed_with_types_and_defaults_and_imported_ones_are_not():
    assert front_door.signatures("m", SOURCE) == [
        "m.Alias = list['Thing']",
        "m.NAMED: dict[str, int] = {}",
        "m.SIZE: int",
        "class m.Thing(Base) @dataclass(frozen=True)",
        "m.Thing.second: str",
        "m.Thing.first: int = field(default_factory=int)",
        "m.Thing.given: list[int]",
        "m.Thing.bare: unannotated",
        "m.Thing.__init__(self) -> None",
        "m.Thing.method(self) -> Thing",
        "m.Thing.width: int @property",
        "m.function(a, /, b: int = 1, *rest: str, c: Thing | None = None, **more: float) -> Iterator[int]",
        "m.only_by_name(*, c: int) -> None",
    ]
