"""Which log lines there are: names, levels and keys, read out of the code that makes them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import forwarder.observe
from forwarder.observe.lines import Level, LogEvent

_FOLDER = Path(forwarder.observe.__file__ or "").parent

Functions: TypeAlias = Mapping[str, ast.FunctionDef]


@dataclass
class Described:
    """One name that ``event`` can have: its levels, and the keys its line may carry, in order."""

    levels: set[Level] = field(default_factory=set)
    keys: dict[str, None] = field(default_factory=dict)


def log_lines(folder: Path = _FOLDER) -> dict[LogEvent, Described]:
    """Return every name with what the modules of ``folder`` make of it."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))]
    everywhere = {one.name: one for tree in trees for one in _functions(tree)}
    found: dict[LogEvent, Described] = {event: Described() for event in LogEvent}
    for tree in trees:
        near = everywhere | {one.name: one for one in _functions(tree)}
        for function in _functions(tree):
            for level, event in _made(function):
                found[event].levels.add(level)
                found[event].keys |= dict.fromkeys(_keys(function, near))
    return found


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _made(function: ast.FunctionDef) -> Iterator[tuple[Level, LogEvent]]:
    """Yield level and name of every line that is made; both may depend on one condition."""
    assigned = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and len(call.args) > 1:
            first, second = (
                assigned.get(one.id, one) if isinstance(one, ast.Name) else one
                for one in call.args[:2]
            )
            yield from _pairs(first, second)


def _pairs(first: ast.expr, second: ast.expr) -> Iterator[tuple[Level, LogEvent]]:
    if (
        isinstance(first, ast.IfExp)
        and isinstance(second, ast.IfExp)
        and ast.dump(first.test) == ast.dump(second.test)
    ):
        yield from _pairs(first.body, second.body)
        yield from _pairs(first.orelse, second.orelse)
        return
    for level in _named(first, "Level"):
        for event in _named(second, "LogEvent"):
            yield Level[level], LogEvent[event]


def _named(node: ast.AST, of: str) -> Iterator[str]:
    for one in ast.walk(node):
        if (
            isinstance(one, ast.Attribute)
            and isinstance(one.value, ast.Name)
            and one.value.id == of
        ):
            yield one.attr


def _keys(function: ast.FunctionDef, near: Functions) -> Iterator[str]:
    """Yield the keys of dicts in a function; ``**other(...)`` gives those of that function."""
    for node in ast.walk(function):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value)
                elif key is None:
                    yield from _keys_of_call(value, near)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            for argument in node.args:
                yield from _keys_of_call(argument, near)


def _keys_of_call(node: ast.expr, near: Functions) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in near:
        yield from _keys(near[node.func.id], near)
