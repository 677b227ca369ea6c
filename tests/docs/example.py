"""The Python block of a page, imported as the module of an author."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from deploy.generate.markdown import blocks


@contextmanager
def imported(page: Path, name: str, folder: Path) -> Iterator[ModuleType]:
    """Write the only Python block of ``page`` to ``folder`` and import it as ``name``."""
    (block,) = [b for b in blocks(page.read_text(encoding="utf-8")) if b.language == "python"]
    path = folder / f"{name}.py"
    path.write_text(block.text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]
