"""Lines of CEF and LEEF: escaping, and writers of fields.

Makes a function out of a template: constants and fillings in one expression, as an f-string is.

The interpreter joins an f-string without a list and without a step for each part, as ``str.join``
needs them. It is built as a syntax tree, never as source text: a constant may hold any character
and stays a constant, so that nothing in a row or a setting can become code.

What CEF and LEEF share: texts that come from attackers, made safe for one line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, cast

from forwarder.core.errors import ConfigError, Fault
from forwarder.core.schema import Provisioning

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


VENDOR, PRODUCT, PRODUCT_VERSION = "Cloudflare", "Access", "1"

_SEPARATORS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def clean(text: str, limit: int) -> str:
    """Return ``text`` as one line of at most ``limit`` bytes of UTF-8.

    Control characters, line ends and what turns the direction of writing become a space each,
    lone surrogates ``?``. A cut never halves a character. Cleaning twice changes nothing.
    """
    line = _SEPARATORS.sub(" ", text).encode("utf-8", "replace")
    return line[:limit].decode("utf-8", "ignore")


def identifier(text: str) -> str:
    """Return ``text`` with nothing in it but letters, digits, ``_``, ``.`` and ``-``."""
    return _NO_NAME.sub("_", text)


def checked_keys(fields: Mapping[str, str], format_name: str) -> Mapping[str, str]:
    """Return ``fields`` if each name can be a key; raises ``ConfigError`` otherwise."""
    faults = [
        Fault("add_fields", f"{name!r} cannot be a key in {format_name}", "use letters and digits")
        for name in fields
        if not _KEY.fullmatch(name)
    ]
    if faults:
        raise ConfigError(faults)
    return fields


def members_text(change: Provisioning) -> str:
    """Return the ids of the members that were added or removed."""
    return " ".join(member.value for member in change.members)
