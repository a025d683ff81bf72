"""`zoo plugins new`: a distribution with one algorithm that works, is tested and can be benched at once.

What is written is the example of the documentation, `examples/hello-plugin` of the repository, under another name. The
wheel of this package carries a copy of it.
"""

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

from zoo_core.errors import SpecError
from zoo_core.registry.plugins import NAME, plugins
from zoo_core.storage.atomic import write_text

HERE = Path(__file__).parent
EXAMPLE = next(
    folder for folder in (HERE / "example", HERE.parents[1] / "examples" / "hello-plugin") if folder.is_dir()
)
"""The example: in an installed package, or in the repository."""
FILES = ("pyproject.toml", "README.md", "zoo_hello/*.py", "tests/*.py")


def write_plugin(name: str, folder: Path) -> Path:
    """Write the example into a folder under the name of an algorithm; return the folder.

    `SpecError` if the name cannot be one or is taken, or the folder holds something.
    """
    package = f"zoo_{name.replace('-', '_')}"
    if not NAME.fullmatch(name) or not name[0].isalpha() or "_" in name or keyword.iskeyword(package):
        raise SpecError(
            f"{name!r} cannot be the name of an algorithm: write a letter, then lower case letters, digits and hyphens."
        )
    if name in plugins().algorithms or find_spec(package) is not None:
        raise SpecError(f"there is an algorithm {name!r}, or a package {package}, already; choose another name.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder}: there is something already; name another --directory.")
    for pattern in FILES:
        for file in sorted(EXAMPLE.glob(pattern)):
            path = folder / _renamed(str(file.relative_to(EXAMPLE)), name, package)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, _renamed(file.read_text(encoding="utf-8"), name, package))
    write_text(folder / package / "py.typed", "")
    return folder


def _renamed(text: str, name: str, package: str) -> str:
    """Say `name` where the example is called hello: the package, the class of settings, and the algorithm."""
    said = {
        "zoo_hello": package,
        "test_hello": f"test_{package[4:]}",
        "Hello": "".join(part.capitalize() for part in name.split("-")),
        "hello": name,
    }
    return re.sub("|".join(said), lambda found: said[found[0]], text)  # at once: the new name may hold the old one
