"""Conventions that no linter knows: size, names, documentation, and fakes instead of mocks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCTION = sorted((ROOT / "forwarder").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
THIS = Path(__file__)

MOST_LINES_IN_A_FILE = 250
MOST_LINES_IN_A_FUNCTION = 50
NAMES_THAT_SAY_NOTHING = {"base", "common", "constants", "helpers", "manager", "types", "utils"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", PRODUCTION, ids=_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", PRODUCTION, ids=_name)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES_IN_A_FILE


@pytest.mark.parametrize("path", PRODUCTION, ids=_name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    too_long = [
        function.name
        for function in _functions(path)
        if (function.end_lineno or 0) - function.lineno >= MOST_LINES_IN_A_FUNCTION
    ]

    assert [] == too_long


@pytest.mark.parametrize("path", PRODUCTION, ids=_name)
def test_a_module_is_named_after_what_it_does(path: Path) -> None:
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    assert path.parent.name not in NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("path", [*PRODUCTION, *TESTS], ids=_name)
def test_nothing_is_mocked(path: Path) -> None:
    assert [] == [name for name in _imported(path) if re.search(r"\bmock\b", name)]


@pytest.mark.parametrize("path", [*PRODUCTION, *TESTS], ids=_name)
def test_nothing_is_left_to_do(path: Path) -> None:
    comments = re.findall(r"#.*", path.read_text()) if path != THIS else []

    assert [] == [one for one in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", one)]


@pytest.mark.parametrize("path", [*PRODUCTION, *TESTS], ids=_name)
def test_an_exception_from_a_rule_names_the_rule(path: Path) -> None:
    silent = r"#\s*(?:type:\s*ignore(?!\[)|noqa(?!:)|nosec(?! B\d)).*"
    silenced = re.findall(silent, path.read_text())

    assert silenced == [] or path == THIS


def test_every_lint_rule_that_is_off_says_why() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    switched_off = re.findall(r'^    "[A-Z]+[0-9]*",.*$', settings, re.MULTILINE)

    assert len(switched_off) > len(NAMES_THAT_SAY_NOTHING)
    assert [] == [line for line in switched_off if not re.search(r", +# \w", line)]
