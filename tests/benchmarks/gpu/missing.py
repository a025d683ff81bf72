"""Print the lines of wheels.txt that this Python has not, or has too old."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement


def is_there(requirement: Requirement) -> bool:
    """Return whether a distribution is installed in a version that will do."""
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def main() -> None:
    """Print them."""
    for line in Path(__file__).with_name("wheels.txt").read_text().splitlines():
        if line and not line.startswith("#") and not is_there(Requirement(line)):
            print(line)


if __name__ == "__main__":
    main()
