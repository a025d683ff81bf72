"""Loading the installed plugins one by one, so that a broken plugin does not affect the others."""

import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pluggy import PluginManager

from zoo_core import hookspecs
from zoo_core.errors import PluginError, SpecError, ZooError, did_you_mean, in_one_line
from zoo_core.records import API_VERSION, Algorithm, Command, Executor, Task, Tracker
from zoo_core.registry import listing
from zoo_core.registry.plugin import Plugin
from zoo_core.registry.uninstalled import make_findable

GROUP = "zoo"
GOLD_GROUP = "zoo.gold"
"""The group of plugins that bring what training must not see, such as gold: all processes load them but those that
train, where the packages of their distributions cannot be imported either."""
HEAVY = ("torch", "transformers", "datasets", "numpy", "pydantic")
"""Libraries whose import takes longer than listing all plugins."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Plugins:
    """The loaded plugins and the records that they provide, by name in alphabetical order."""

    def __init__(
        self, found: Collection[EntryPoint], block: Collection[str] = (), misplaced: Collection[EntryPoint] = ()
    ) -> None:
        self.manager = PluginManager("zoo")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self.algorithms: dict[str, Algorithm] = {}
        self.tasks: dict[str, Task] = {}
        self.commands: dict[str, Command] = {}
        self.executors: dict[str, Executor] = {}
        self.trackers: dict[str, Tracker] = {}
        self._owner: dict[tuple[str, str], Plugin] = {}
        self._disputed: dict[tuple[str, str], str] = {}
        described = [(Plugin.of(entry), entry) for entry in found]
        # A distribution may be seen twice on sys.path: the first is the one that is imported.
        unique = {(plugin.name, plugin.distribution): (plugin, entry) for plugin, entry in reversed(described)}
        for _, (plugin, entry) in sorted(unique.items()):
            self.plugins.append(plugin)
            others = [other for name, other in unique if name == plugin.name and other != plugin.distribution]
            self._load(plugin, entry, others, block)
        for entry in misplaced:
            plugin = Plugin.of(entry)
            reason = f"its entry point is in the group {entry.group!r}; write [project.entry-points.{GROUP}]"
            self.plugins.append(replace(plugin, status="broken", reason=reason))
        for table in ("algorithms", "tasks", "commands", "executors", "trackers"):
            setattr(self, table, dict(sorted(getattr(self, table).items())))

    def _load(self, plugin: Plugin, entry: EntryPoint, others: Sequence[str], block: Collection[str]) -> None:
        if entry.name in block:
            plugin.status, plugin.reason = "blocked", "not wanted in this process"
            return
        if others:  # whichever was loaded, a user might mean the other
            plugin.status = "conflict"
            plugin.reason = f"{others[0]} also provides a plugin named {entry.name!r}; uninstall one of them"
            return
        try:
            before = set(sys.modules)
            listing.check_entry(entry)
            module = entry.load()
            listing.check_module(module, entry)
            self.manager.register(module, name=entry.name)
            self._check_hooks(plugin)
            plugin.hooks = sorted(caller.name for caller in self.manager.get_hookcallers(module) or ())
            self._collect(plugin)
            heavy = ", ".join(name for name in HEAVY if name in sys.modules and name not in before)
            if heavy:
                plugin.notes.append(f"listing it imports {heavy}, and every zoo command waits for that")
        except (Exception, SystemExit) as error:  # quarantine is what this loader is for
            status = error.status if isinstance(error, _Rejected) else "broken"
            reason = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            self._quarantine(plugin, status, " ".join(reason.split()))

    def _check_hooks(self, plugin: Plugin) -> None:
        """Raise `PluginError` for functions that are marked as hooks and would not be called as expected."""
        hooks = [name for name in vars(hookspecs) if name.startswith("zoo_")]
        for caller in self.manager.get_hookcallers(self.manager.get_plugin(plugin.name)) or ():
            mine = [one for one in caller.get_hookimpls() if one.plugin_name == plugin.name]
            if caller.name not in hooks and not all(one.optionalhook for one in mine):
                raise PluginError(f"unknown hook {caller.name!r}. {did_you_mean(caller.name, hooks)}")
            if any(one.wrapper or one.hookwrapper for one in mine):
                # Plugins are asked one by one, so that one that fails harms no other: there is no call to wrap.
                raise PluginError(f"{caller.name} is marked as a wrapper, and hooks here have none; implement the hook")
        self.manager.check_pending()

    def _quarantine(self, plugin: Plugin, status: str, reason: str) -> None:
        plugin.status, plugin.reason = status, reason
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)
        self._forget(plugin)

    def _collect(self, plugin: Plugin) -> None:
        for hook, table, kind in (
            ("zoo_algorithms", self.algorithms, Algorithm),
            ("zoo_tasks", self.tasks, Task),
            ("zoo_commands", self.commands, Command),
            ("zoo_executors", self.executors, Executor),
            ("zoo_trackers", self.trackers, Tracker),
        ):
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                if implementation.plugin_name == plugin.name:
                    for record in implementation.function():
                        self._add(plugin, hook, table, kind, record)

    def _add(self, plugin: Plugin, hook: str, table: dict[str, Any], kind: type, record: Any) -> None:
        if not isinstance(record, kind):
            raise PluginError(f"{hook} must return {kind.__name__} records, it returned {record!r}")
        listing.check_fields(record, hook)
        if not NAME.fullmatch(record.name):  # type: ignore[attr-defined]
            raise PluginError(f"{hook}: the name {record.name!r} must be lower case, digits, '-' or '_'")  # type: ignore[attr-defined]
        name: str = record.name  # type: ignore[attr-defined]
        plugin.claims.append(name)
        self._settle(plugin, hook, name)
        for path in (getattr(record, name, None) for name in listing.PATHS):
            if path is not None and not PATH.fullmatch(path):
                raise PluginError(f"{hook}: {name!r} names code by {path!r}; write module:attribute")
        if isinstance(record, Algorithm) and record.api_version != API_VERSION:
            raise _Rejected(
                "incompatible",
                f"{name!r} was written for plugin API {record.api_version}, this core speaks {API_VERSION}; "
                f"install a release of {plugin.distribution} for it",
            )
        listing.check_code(record, hook)
        if isinstance(record, Algorithm):
            plugin.notes += listing.notes_on(record)
        table[name] = record
        self._owner[hook, name] = plugin
        plugin.provides.append(name)

    def _settle(self, plugin: Plugin, hook: str, name: str) -> None:
        """Let a name belong to the entry point that has it, too; else, if two plugins claim it, to neither of them."""
        owner = self._owner.get((hook, name))
        if owner is not None and owner.name != name:
            belongs = f"belongs to {plugin.distribution}" if plugin.name == name else f"also is {plugin.distribution}'s"
            self._quarantine(owner, "conflict", f"{name!r} {belongs}; uninstall one of them")
            self._disputed[hook, name] = owner.distribution
        elif owner is not None:
            raise _Rejected("conflict", f"{name!r} belongs to {owner.distribution}; uninstall one of them")
        if plugin.name != name and (hook, name) in self._disputed:
            raise _Rejected("conflict", f"{name!r} also is {self._disputed[hook, name]}'s; uninstall one of them")

    def _forget(self, plugin: Plugin) -> None:
        for key in [key for key, owner in self._owner.items() if owner is plugin]:
            del self._owner[key]
            table: dict[str, Any] = getattr(self, key[0].removeprefix("zoo_"))
            table.pop(key[1], None)
        plugin.provides.clear()

    @property
    def unusable(self) -> list[Plugin]:
        """The plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.status not in ("ok", "blocked")]

    def owner(self, hook: str, name: str) -> Plugin:
        """Return the plugin that provides a record, for example `owner("zoo_algorithms", "ppo")`."""
        return self._owner[hook, name]

    def algorithm(self, name: str) -> Algorithm:
        """Return the installed algorithm of that name; `SpecError` if there is none."""
        if name not in self.algorithms:
            unusable = next((one for one in self.unusable if name in (one.name, *one.claims)), None)
            if unusable:
                raise PluginError(f"the algorithm {name!r} cannot be used: {unusable.fault}")
            raise SpecError(
                f"no installed plugin provides the algorithm {name!r}. {did_you_mean(name, self.algorithms)} "
                "To add one, pip install its plugin; `zoo plugins` shows those that could not be loaded."
            )
        return self.algorithms[name]

    def fault_of(
        self, algorithm: Algorithm, error: BaseException, stack: Sequence[traceback.FrameSummary] | None = None
    ) -> PluginError:
        """Return the error that tells a user which plugin an exception comes from, where, and the remedy.

        The place is the last line of the plugin in `stack`, which is that of the exception unless it is given.
        """
        package = f"/{self.owner('zoo_algorithms', algorithm.name).module.partition('.')[0]}"
        frames = traceback.extract_tb(error.__traceback__) if stack is None else stack
        own = [frame for frame in frames if f"{package}/" in frame.filename or f"{package}.py" in frame.filename]
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        why = str(error) if isinstance(error, PluginError) else in_one_line(error)
        return PluginError(self.blame(algorithm, f"{why.rstrip('.')}{place}"))

    def blame(self, algorithm: Algorithm, why: str) -> str:
        """Say in a sentence which plugin's fault something is, and the remedy."""
        owner = self.owner("zoo_algorithms", algorithm.name)
        return f"the plugin {owner.called} cannot run {algorithm.name!r}: {why}. {owner.remedy}"

    def first(self, hook: str, among: Collection[str] | None = None, **arguments: object) -> Any:
        """Return the first answer to a hook that is not None, of all plugins or those named in `among`.

        The core's own hooks are asked last.
        """
        failures: list[str] = []
        for plugin, function in self._implementations(hook, arguments):
            if among is not None and plugin not in among:
                continue
            try:
                answer = function()
            except ZooError as error:
                if failures:
                    raise PluginError("; ".join([*failures, str(error)])) from error
                raise
            except Exception as error:  # a plugin that fails on another's reference must not hide the other's answer
                failures.append(f"plugin {plugin!r} failed in {hook}({arguments}): {error!r}")
                continue
            if answer is not None:
                return answer
        if failures:
            raise PluginError("; ".join(failures))
        return None

    def observe(self, hook: str, **arguments: object) -> list[str]:
        """Call all observers. One that fails does not stop the run; return one line for each of these."""
        failures = []
        for plugin, function in self._implementations(hook, arguments):
            try:
                function()
            except Exception as error:
                failures.append(f"observer {plugin!r} failed in {hook}: {error!r}")
        return failures

    def _implementations(self, hook: str, arguments: dict[str, object]) -> Iterator[tuple[str, Callable[[], Any]]]:
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        for one in reversed(implementations):  # pluggy lists them in reverse order of calling
            given = {name: arguments[name] for name in one.argnames}
            yield one.plugin_name, lambda one=one, given=given: one.function(**given)  # type: ignore[misc]


class _Rejected(PluginError):
    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def load(block: Collection[str] = ()) -> Plugins:
    """Load the installed plugins, and those that $ZOO_PLUGINS names, except the entry points named in `block`."""
    make_findable()
    known = entry_points()
    groups = [group for group in known.groups if listing.means_zoo(group) and group not in (GROUP, GOLD_GROUP)]
    misplaced = [entry for group in groups for entry in known.select(group=group)]
    return Plugins([*known.select(group=GROUP), *known.select(group=GOLD_GROUP)], block, misplaced)


_in_use: Plugins | None = None


def plugins() -> Plugins:
    """Return the installed plugins, which are loaded once per process. All code asks here for plugins."""
    global _in_use
    if _in_use is None:
        _in_use = load()
    return _in_use


def load_without(block: Collection[str]) -> None:
    """Load the installed plugins of this process anew, without the entry points named in `block`."""
    global _in_use
    _in_use = load(block)
