"""Makes a function out of a template: constants and fillings in one expression, as an f-string is.

The interpreter joins an f-string without a list and without a step for each part, as ``str.join``
needs them. It is built as a syntax tree, never as source text: a constant may hold any character
and stays a constant, so that nothing in a row or a setting can become code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

WriteLine: TypeAlias = Callable[[tuple[str, ...], str, str, str, str], str]
"""From (fillings, id, time, time first seen, members of what is extra) to a line."""

FILLINGS, ID, TIME, SEEN, EXTRA = "fillings", "id", "time", "seen", "extra"
_ARGUMENTS = (FILLINGS, ID, TIME, SEEN, EXTRA)


def line_writer(constants: Iterable[str], between: Iterable[int | str]) -> WriteLine:
    """Return what writes ``constants`` with something between each two of them.

    ``between`` has the place of a filling, or ``ID``, ``TIME``, ``SEEN`` or ``EXTRA``; it is one
    shorter than ``constants``.
    """
    first, *others = constants
    values: list[ast.expr] = [ast.Constant(first)]
    for what, constant in zip(between, others, strict=True):
        values += [ast.FormattedValue(_read(what), conversion=-1), ast.Constant(constant)]
    taken = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(name) for name in _ARGUMENTS],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(taken, ast.JoinedStr(values))))
    code = compile(tree, "<template>", "eval")
    made = eval(code, {"__builtins__": {}})  # noqa: S307 - our own tree  # nosec B307
    return cast("WriteLine", made)


def _read(what: int | str) -> ast.expr:
    if isinstance(what, str):
        return ast.Name(what, ast.Load())
    return ast.Subscript(ast.Name(FILLINGS, ast.Load()), ast.Constant(what), ast.Load())
