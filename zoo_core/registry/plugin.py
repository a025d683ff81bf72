"""What is known of one plugin: where it comes from, what it provides, and why it cannot be used."""

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

from zoo_core.registry.uninstalled import Uninstalled


@dataclass
class Plugin:
    """One entry point of the group `zoo` or `zoo.gold`, and the outcome of loading it."""

    name: str
    distribution: str
    version: str
    module: str
    status: str = "ok"
    """"ok", "broken", "conflict", "incompatible" or "blocked"."""
    reason: str = ""
    """The reason for a status other than "ok", in one line."""
    hooks: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)
    """Names of its algorithms, tasks, commands, executors and trackers."""
    claims: list[str] = field(default_factory=list)
    """Names of all that it would provide if nothing were wrong with it."""
    notes: list[str] = field(default_factory=list)
    """What is wrong with it and keeps nobody from using it."""
    path: str = ""
    """The file or folder of one that is not installed and that `--plugin` names."""

    @classmethod
    def of(cls, entry: EntryPoint) -> "Plugin":
        """Describe an entry point that nobody loaded yet."""
        metadata = entry.dist.metadata if entry.dist else {"Name": "?", "Version": "?"}  # parsed anew at each access
        path = str(entry.dist.path) if isinstance(entry.dist, Uninstalled) else ""
        return cls(entry.name, metadata["Name"] or "?", metadata["Version"] or "?", entry.value, path=path)

    @property
    def fault(self) -> str:
        """Why it could not be loaded, in a sentence with the remedy."""
        return f"the plugin {self.called} is not loaded: {self.reason.rstrip('.')}. {self.remedy}"

    @property
    def called(self) -> str:
        """What it is called in a sentence."""
        return f"{self.name!r} ({self.path or f'{self.distribution} {self.version}'})"

    @property
    def remedy(self) -> str:
        """What a user can do about a fault of it."""
        return f"Mend it, or {'leave it out' if self.path else f'pip uninstall {self.distribution}'}."
