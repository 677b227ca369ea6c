"""Which log lines there are: names, levels and keys, read out of the code that makes them. Pure."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from textwrap import dedent
from types import FunctionType
from typing import Any

from forwarder.observe import of_plugins, output
from forwarder.observe.lines import Level, LogEvent
from forwarder.observe.observer import HANDLERS

_OTHERS: tuple[Callable[..., Any], ...] = (of_plugins.observe_plugin, output.LibraryHandler.emit)


@dataclass
class Described:
    """One name that ``event`` can have: its levels, and the keys its line may carry, in order."""

    levels: set[Level] = field(default_factory=set)
    keys: dict[str, None] = field(default_factory=dict)


def log_lines() -> dict[LogEvent, Described]:
    """Return every name with its levels and keys."""
    found: dict[LogEvent, Described] = {event: Described() for event in LogEvent}
    for handler in (*HANDLERS.values(), *_OTHERS):
        tree = _tree(handler)
        keys = dict.fromkeys(_keys(handler, tree))
        for level, event in _made(tree):
            found[event].levels.add(level)
            found[event].keys |= keys
    return found


def _tree(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(dedent(inspect.getsource(function)))


def _made(tree: ast.AST) -> Iterator[tuple[Level, LogEvent]]:
    """Yield level and name of every line that is made; both may depend on one condition."""
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and len(call.args) > 1:
            first, second = (_resolved(one, assigned) for one in call.args[:2])
            yield from _pairs(first, second)


def _resolved(node: ast.AST, assigned: dict[str, ast.expr]) -> ast.AST:
    return assigned.get(node.id, node) if isinstance(node, ast.Name) else node


def _pairs(first: ast.AST, second: ast.AST) -> Iterator[tuple[Level, LogEvent]]:
    alike = (
        isinstance(first, ast.IfExp)
        and isinstance(second, ast.IfExp)
        and ast.dump(first.test) == ast.dump(second.test)
    )
    if alike and isinstance(first, ast.IfExp) and isinstance(second, ast.IfExp):
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


def _keys(function: Callable[..., Any], tree: ast.AST) -> Iterator[str]:
    """Yield the keys of dicts in a function and in those it calls for more of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value)
                elif key is None and isinstance(value, ast.Call):
                    yield from _keys_of_call(function, value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from _keys_of_call(function, node)


def _keys_of_call(function: Callable[..., Any], call: ast.Call) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    called = inspect.unwrap(function).__globals__.get(name)
    if isinstance(called, FunctionType) and called.__module__.startswith("forwarder.observe.of_"):
        yield from _keys(called, _tree(called))
