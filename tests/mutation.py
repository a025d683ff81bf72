"""Break the formulas one small piece at a time and see whether their tests notice.

    python tests/mutation.py                  every loss.py or selection.py of a plugin, and zoo_core/functional.py
    python tests/mutation.py plugins/ppo      only the files below these paths
    python tests/mutation.py --list           print the mutants and run nothing

A mutant is a module with one change: an operator, comparison or name replaced; a sign, negation, call
(masking, clamping, reduction) or keyword left out; a constant moved; two arguments swapped; a statement
deleted. It is killed if the tests of its module fail or do not end. Where one lives, the tests do not test
that piece. The exit status is 1 if fewer than 95 % are killed, or if the list of equivalent mutants below is
out of date.

Each mutant runs in a fork of this process, which has torch and pytest loaded. Nothing is written.
"""

import argparse
import ast
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = 0.95
SECONDS = 20  # after which the tests of a mutant will not end

# Without the settings of the repository, and without plugins that take longer than the tests.
PYTEST = f"""-x --tb=no --assert=plain --import-mode=importlib --noconftest -c {os.devnull}
    -p no:cacheprovider -p no:logging -p no:threadexception -p no:unraisableexception"""

UNREAD = "the argument is there for the signature alone"
ANY_FILL = "what is filled in only has to be finite: the result is masked again"
STABLE = "on a CPU every sort is stable"
EQUALLY_LONG = "they have the same length by construction"
SHORTCUT = "dividing by 1 changes nothing"
EQUIVALENT = {
    "zoo_core/functional.py": {
        "exact = logits.to(torch.promote_types(torch.float32, logits.dtype))": "the order of types says nothing",
        "scaled = exact / temperature": SHORTCUT,
        "scaled = exact if temperature == 0.0 else exact / temperature": SHORTCUT,
        "return masked_mean((ratio - 1).abs() > clip_range, mask)": "float is for the declared type alone",
        "order = torch.randperm(size, generator=generator)": "without device= it raises, but on a GPU only",
    },
    "plugins/coreset/zoo_coreset/selection.py": {
        "return normalize(hidden.float().masked_fill(~attention.unsqueeze(-1), 0.0).mean(1))": "it points the same way",
        "found = KMeans(clusters, random_state=seed).fit(points)": "scikit-learn reads tensors, but says so nowhere",
        "for region, (rows, count) in enumerate(zip(regions, counts))": EQUALLY_LONG,
        "for region, (rows, count) in enumerate(zip(regions, counts, strict=False))": EQUALLY_LONG,
        "start = (points[rows] - points[rows].mean(0)).norm(dim=1).argmin()": "int is for the declared type alone",
        "selected += [Pick(int(rows[pick]), region, far) for pick, far in zip(picks, distances)]": "it is the default",
    },
    "plugins/grpo/zoo_grpo/loss.py": {
        "deviations = scores.view(-1, group_size).std(dim=1).repeat_interleave(group_size)": "it is the default",
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, 1.0).exp()": ANY_FILL,
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, -1.0).exp()": ANY_FILL,
        "log_ratio = (reference_logprobs - logprobs).masked_fill(~mask, 1.0)": ANY_FILL,
        "log_ratio = (reference_logprobs - logprobs).masked_fill(~mask, -1.0)": ANY_FILL,
        "importance = (logprobs - old_logprobs).masked_fill(~mask, 1.0).exp()": ANY_FILL,
        "importance = (logprobs - old_logprobs).masked_fill(~mask, -1.0).exp()": ANY_FILL,
        # k3 does not look at the old log-probabilities that it is handed.
        "return importance * kl_penalty(logprobs, reference_logprobs, reference_logprobs, mask)": UNREAD,
    },
    "plugins/online-dpo/zoo_online_dpo/selection.py": {
        "first = torch.arange(len(groups)) * samples_per_prompt": "without device= it raises, but on a GPU only",
        "other_tokens = (responses[best] != responses[worst]) & mask[worst]": "where masks differ lengths do, too",
    },
    "plugins/ppo/zoo_ppo/loss.py": {
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, 1.0).exp()": ANY_FILL,
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, -1.0).exp()": ANY_FILL,
        "values, old_values, returns = (x.masked_fill(~mask, 1.0) for x in (values, old_values, returns))": (ANY_FILL),
        "values, old_values, returns = (x.masked_fill(~mask, -1.0) for x in (values, old_values, returns))": (ANY_FILL),
    },
    "plugins/rlaif/zoo_rlaif/loss.py": {
        "levels = torch.linspace(-1.0, 1.0, answers.shape[1])": "without device= it raises, but on a GPU only",
        "advantages = (returns.unsqueeze(1) - values).detach().masked_fill(~mask, 1.0)": ANY_FILL,
        "advantages = (returns.unsqueeze(1) - values).detach().masked_fill(~mask, -1.0)": ANY_FILL,
        "errors = (returns.unsqueeze(1) - values).masked_fill(~mask, 1.0)": ANY_FILL,
        "errors = (returns.unsqueeze(1) - values).masked_fill(~mask, -1.0)": ANY_FILL,
    },
    "plugins/raft/zoo_raft/loss.py": {
        "firsts = torch.arange(0, len(scores), samples_per_prompt)": "without device= it raises, but on a GPU only",
        "order = scores.argsort(descending=True)[:len(scores) // samples_per_prompt]": STABLE,
        "order = scores.argsort(descending=True, stable=False)[:len(scores) // samples_per_prompt]": STABLE,
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, 1.0).exp()": ANY_FILL,
        "ratio = (logprobs - old_logprobs).masked_fill(~mask, -1.0).exp()": ANY_FILL,
    },
}
"""By file and mutated statement: why no test can tell it from the original."""

PAIRS: list[tuple[type[ast.AST], type[ast.AST]]] = [
    (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Mult, ast.Pow), (ast.BitAnd, ast.BitOr), (ast.And, ast.Or),
    (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Lt, ast.Gt), (ast.LtE, ast.GtE), (ast.Eq, ast.NotEq),
]  # fmt: skip
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "sum": "mean", "mean": "sum"}
NOT_CODE = {"annotation", "returns", "decorator_list", "type_params", "ctx"}
STATEMENTS = ast.Assign | ast.AugAssign | ast.Expr | ast.For | ast.If | ast.Raise | ast.Return


def replacements(node: ast.AST, parameters: list[str]) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node. `parameters` are those of the function around it."""
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            yield from (ast.BinOp(left, other, right) for other in others(op))
            yield from (left, right)
        case ast.BoolOp(op=op, values=values):
            yield from (ast.BoolOp(other, values) for other in others(op))
            yield from values
        case ast.Compare(left=left, ops=[op], comparators=right):
            yield from (ast.Compare(left, [other], right) for other in others(op))
        case ast.UnaryOp(operand=inner) | ast.Subscript(value=inner):
            yield inner
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (ast.Constant(moved) for moved in (value + 1, value - 1, value * 2) if moved != value)
        case ast.Name(id=name, ctx=ast.Load()) if name in parameters:
            yield ast.Name(parameters[(parameters.index(name) + 1) % len(parameters)], ast.Load())
        case ast.Call():
            yield from broken_calls(node)
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case _ if isinstance(node, STATEMENTS):
            yield ast.Pass()


def others(operator: ast.AST) -> Iterator[ast.AST]:
    """Yield the operators that are easily written instead."""
    for one, other in PAIRS + [(other, one) for one, other in PAIRS]:
        if isinstance(operator, one):
            yield other()


def broken_calls(call: ast.Call) -> Iterator[ast.AST]:
    """Yield a call left out, under another name, with two arguments swapped, or without a keyword."""
    function, arguments, keywords = call.func, call.args, call.keywords
    is_method = isinstance(function, ast.Attribute) and ast.unparse(function.value) != "torch"
    name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
    if is_method:
        yield function.value
    else:
        yield from arguments[:1]
    if name in NAMES:
        other = ast.parse(ast.unparse(function).removesuffix(name) + NAMES[name], mode="eval").body
        yield ast.Call(other, arguments, keywords)
    else:  # min and max do not care about order
        for i in range(len(arguments) - 1):
            swapped = [*arguments[:i], arguments[i + 1], arguments[i], *arguments[i + 2 :]]
            yield ast.Call(function, swapped, keywords)
    for i in range(len(keywords)):
        yield ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])


class Place(NamedTuple):
    """Where a node of code stands."""

    statement: ast.stmt
    parent: ast.AST
    field: str
    index: int | None

    def get(self) -> ast.AST:
        """Return the node."""
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        """Put another node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def places(parent: ast.AST, statement: ast.stmt) -> Iterator[Place]:
    """Yield the places below a node, which is part of a statement."""
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if field not in NOT_CODE and isinstance(node, ast.AST):
                place = Place(node if isinstance(node, ast.stmt) else statement, parent, field, index)
                yield place
                yield from places(node, place.statement)


class Mutant(NamedTuple):
    """One change to a module: the statement before and after it, and the whole source after it."""

    line: int
    before: str
    after: str
    source: str


def mutants(file: Path) -> Iterator[Mutant]:
    """Yield the mutants of a file, function by function."""
    tree = ast.parse((ROOT / file).read_text())
    sources = {ast.unparse(tree)}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        parameters = [parameter.arg for parameter in function.args.args]
        for place in places(function, function):
            node, before = place.get(), text(place.statement)
            for new in replacements(node, parameters):
                place.put(new)
                source, after = ast.unparse(tree), text(new if node is place.statement else place.statement)
                place.put(node)
                if source not in sources:
                    sources.add(source)
                    yield Mutant(place.statement.lineno, before, after, source)


def text(statement: ast.AST) -> str:
    """Return a statement as text, without its body if it has one."""
    whole = ast.unparse(statement)
    return whole.partition(":\n")[0] if hasattr(statement, "body") else whole


def targets() -> Iterator[tuple[Path, str, list[Path]]]:
    """Yield each file to break, the name of its module, and the files of its tests."""
    yield Path("zoo_core/functional.py"), "zoo_core.functional", [ROOT / "tests" / "test_functional.py"]
    for file in sorted(chain.from_iterable(ROOT.glob(f"plugins/*/zoo_*/{what}.py") for what in ("loss", "selection"))):
        plugin, package = file.parent.parent, file.parent.name
        tests = sorted((plugin / "tests").glob(f"test_*_{file.stem}.py"))
        yield file.relative_to(ROOT), f"{package}.{file.stem}", tests


def tests_pass(source: str, module: str, tests: list[Path]) -> bool:
    """Run the tests in a fork of this process in which the module has that source."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)  # kills it
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            install(source, module)
            os._exit(int(pytest.main([*PYTEST.split(), f"--rootdir={ROOT}", *map(str, tests)])))
        finally:
            os._exit(1)  # the mutant could not even be imported
    return os.waitpid(child, 0)[1] == 0


def install(source: str, name: str) -> None:
    """Make `source` the module of that name."""
    package, _, attribute = name.rpartition(".")
    module = sys.modules[name] = ModuleType(name)
    setattr(import_module(package), attribute, module)
    exec(compile(source, name, "exec"), module.__dict__)


def judge(file: Path, module: str, tests: list[Path]) -> tuple[int, int]:
    """Run the mutants of a file, print a line for each; return how many were killed and how many count."""
    if not tests_pass((ROOT / file).read_text(), module, tests):
        sys.exit(f"{', '.join(map(str, tests))}: fails on {file} as it stands; mend that first.")
    start, killed, lived = time.perf_counter(), 0, 0
    equivalent = set(EQUIVALENT.get(str(file), ()))
    for mutant in mutants(file):
        if not tests_pass(mutant.source, module, tests):
            verdict, killed = "killed", killed + 1
        elif mutant.after in equivalent:
            verdict = "equivalent"
            equivalent.remove(mutant.after)
        else:
            verdict, lived = "SURVIVED", lived + 1
        print(f"{verdict:10} {file}:{mutant.line}  {mutant.before}  ->  {mutant.after}", flush=True)
    if equivalent:
        sys.exit(f"Listed as equivalent, but killed or no longer made; remove from the list: {equivalent}")
    print(f"== {file}: {killed} of {killed + lived} killed in {time.perf_counter() - start:.0f} s\n", flush=True)
    return killed, killed + lived


def main() -> None:
    """Read the command line, run, and exit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT], help="only the files below these paths")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    arguments = parser.parse_args()
    below = [path.resolve() for path in arguments.paths]
    chosen = [target for target in targets() if any((ROOT / target[0]).is_relative_to(path) for path in below)]
    if arguments.list:
        for file, *_ in chosen:
            for mutant in mutants(file):
                print(f"{file}:{mutant.line}  {mutant.before}  ->  {mutant.after}")
        return

    sys.path[:0] = [str(ROOT), *(str((ROOT / file).parent.parent) for file, *_ in chosen)]
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    torch.set_num_threads(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))  # loads what every fork would have to load
    for _, module, _ in chosen:
        import_module(module)
    gc.freeze()  # and spares the forks a walk over it
    counts = [judge(*target) for target in chosen]
    killed, total = (sum(column) for column in zip(*counts, strict=True))
    print(f"{killed} of {total} killed ({killed / total:.1%}); required are {REQUIRED:.0%}.")
    sys.exit(killed < REQUIRED * total)


if __name__ == "__main__":
    main()
