"""Write every generated file: ``python -m deploy.generate``."""

from __future__ import annotations

from pathlib import Path

from deploy.generate.artefacts import artefacts

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Write what differs, and name it."""
    for build in artefacts(ROOT).values():
        for path, text in build().items():
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


main()
