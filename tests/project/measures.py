"""Measures the package as its rules do. ``python -m tests.project.measures`` prints the table."""

import ast
import io
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "forwarder"


@dataclass(frozen=True)
class Module:
    """One module of the package, read and parsed once."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def room(self) -> str:
        """The folder that holds the module."""
        return str(self.path.parent.relative_to(ROOT))

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def comments(self) -> int:
        """Count the lines that hold nothing but a comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        alone = (token for token in tokens if token.type == tokenize.COMMENT)
        return sum(token.line.lstrip().startswith("#") for token in alone)


@cache
def modules(package: str = PACKAGE) -> dict[str, Module]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def imports(module: Module) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name) for each import of the package, relative ones made absolute."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.package.split(".")[: -node.level + 1 or None]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield base, alias.name


def edges(everything: dict[str, Module]) -> Counter[str]:
    """Count, for each module, the modules that define what it imports."""
    return Counter(
        importer
        for importer, module in everything.items()
        for defining in {
            _defining(everything, base, name)
            for base, name in imports(module)
            if base.split(".")[0] == PACKAGE
        }
        if defining != importer
    )


def _defining(everything: dict[str, Module], base: str, name: str | None) -> str:
    """Follow re-exports to the module that defines the name."""
    if name is None:
        return base
    if f"{base}.{name}" in everything:
        return f"{base}.{name}"
    if base in everything:
        for further, again in imports(everything[base]):
            if again == name and further.split(".")[0] == PACKAGE and further != base:
                return _defining(everything, further, name)
    return base


def table() -> str:
    """Return the measures of the package, one a line."""
    package = modules()
    lines = sum(module.lines for module in package.values())
    files = [module.lines for module in package.values() if module.path.stem != "__init__"]
    functions = [
        (function.end_lineno or 0) - function.lineno + 1
        for module in package.values()
        for function in module.functions()
    ]
    rooms = Counter(module.room for module in package.values())
    room, most = rooms.most_common(1)[0]
    comments = sum(module.comments() for module in package.values())
    return "\n".join(
        (
            f"modules (with __init__)            {len(package)}",
            f"lines                              {lines}",
            f"lines a file, median / p90 / max   {_spread(files)}",
            f"lines a function, median/p90/max   {_spread(functions)}",
            f"comment lines                      {100 * comments / lines:.1f} %",
            f"internal imports per 1,000 lines   {1000 * edges(package).total() / lines:.1f}",
            f"fullest room                       {room}, {most} files",
        )
    )


def _spread(values: list[int]) -> str:
    tenth = statistics.quantiles(values, n=10)[8]
    return f"{statistics.median(values):.0f} / {tenth:.0f} / {max(values)}"


if __name__ == "__main__":
    print(table())  # noqa: T201 - a command prints
