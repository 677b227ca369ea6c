"""Conventions that no linter knows, one test each, over all files."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.project.measures import ROOT, edges, modules

TESTS = sorted((ROOT / "tests").rglob("*.py"))
EVERYTHING = [*(module.path for module in modules().values()), *TESTS]
THIS = Path(__file__)

LEAST_COMMENTS = 0.02
MOST_LINES_IN_A_FILE = 500
MOST_LINES_IN_A_FUNCTION = 50
MOST_FILES_IN_A_ROOM = 20
MOST_IMPORTS_IN_1000_LINES = 20
NAMES_THAT_SAY_NOTHING = {"base", "common", "constants", "helpers", "manager", "types", "utils"}
# Objects of libraries, which offer no other way: TLS contexts and connections, aiohttp's responses
# and connectors, log records, aiokafka's producers, and a hint added to an error on its way up.
NOT_OURS = frozenset(
    ["accumulator", "connection", "connector", "context", "error", "producer", "record", "response"]
)
# A model is plain data on purpose, and a test moves its clock by hand.
MODELS = re.compile(r"forwarder\.testing\.journal_\w+")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _assigned(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a statement binds, one at a time."""
    targets = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple) else [target]


def _owner(target: ast.expr) -> str | None:
    """Return whose attribute is bound, or changed by an index; None for an own one."""
    if isinstance(target, ast.Subscript):
        target = target.value
    if not isinstance(target, ast.Attribute):
        return None
    owner = ast.unparse(target.value)
    return None if owner in {"self", "cls"} else owner


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, module in modules().items() if not ast.get_docstring(module.tree)]

    assert [] == silent


def test_a_file_is_one_concept_of_bounded_size() -> None:
    too_long = {
        name: module.lines
        for name, module in modules().items()
        if module.lines > MOST_LINES_IN_A_FILE
    }

    assert {} == too_long


def test_a_function_fits_on_a_screen() -> None:
    too_long = [
        f"{name}.{function.name}"
        for name, module in modules().items()
        for function in module.functions()
        if (function.end_lineno or 0) - function.lineno >= MOST_LINES_IN_A_FUNCTION
    ]

    assert [] == too_long


def test_a_room_can_be_taken_in_at_a_glance() -> None:
    rooms = [module.room for module in modules().values()]

    assert {} == {
        room: rooms.count(room) for room in rooms if rooms.count(room) > MOST_FILES_IN_A_ROOM
    }


def test_modules_import_few_others_of_the_package() -> None:
    package = modules()
    lines = sum(module.lines for module in package.values())

    assert edges(package).total() / lines * 1000 <= MOST_IMPORTS_IN_1000_LINES


def test_a_class_owns_its_state() -> None:
    meddling = [
        f"{name}:{getattr(node, 'lineno', 0)}: {owner}"
        for name, module in modules().items()
        if not MODELS.fullmatch(name)
        for node in ast.walk(module.tree)
        for target in _assigned(node)
        if (owner := _owner(target)) is not None and owner not in NOT_OURS
    ]

    assert [] == meddling


def test_comments_say_why_where_the_question_arises() -> None:
    package = modules().values()
    lines = sum(module.lines for module in package)

    assert sum(module.comments() for module in package) / lines >= LEAST_COMMENTS


def test_no_name_of_a_module_is_defined_twice() -> None:
    twice = [
        f"{name}.{bound}"
        for name, module in modules().items()
        for bound, count in Counter(
            target.id
            for node in module.tree.body
            for target in _assigned(node)
            if isinstance(target, ast.Name)
        ).items()
        if count > 1
    ]

    assert [] == twice


def test_a_module_is_named_after_what_it_does() -> None:
    names = {part for module in modules().values() for part in module.name.split(".")}

    assert set() == names & NAMES_THAT_SAY_NOTHING


def test_nothing_is_mocked() -> None:
    mocking = {
        _name(path): name
        for path in EVERYTHING
        for name in _imported(path)
        if re.search(r"\bmock\b", name)
    }

    assert {} == mocking


def test_nothing_is_left_to_do() -> None:
    left = [
        f"{_name(path)}: {comment}"
        for path in EVERYTHING
        if path != THIS
        for comment in re.findall(r"#.*", path.read_text())
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)
    ]

    assert [] == left


def test_an_exception_from_a_rule_names_the_rule() -> None:
    silent = r"#\s*(?:type:\s*ignore(?!\[)|noqa(?!:)|nosec(?! B\d)).*"
    silenced = {
        _name(path): found
        for path in EVERYTHING
        if path != THIS and (found := re.findall(silent, path.read_text()))
    }

    assert {} == silenced


def test_every_lint_rule_that_is_off_says_why() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    switched_off = re.findall(r'^    "[A-Z]+[0-9]*",.*$', settings, re.MULTILINE)

    assert len(switched_off) > len(NAMES_THAT_SAY_NOTHING)
    assert [] == [line for line in switched_off if not re.search(r", +# \w", line)]
