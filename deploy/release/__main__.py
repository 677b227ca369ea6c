"""Write a release: ``python -m deploy.release [FOLDER]``, ``dist`` if none is given."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.release.files import write_release


def main(arguments: list[str]) -> None:
    """Write every file, and name it."""
    for path in write_release(Path(arguments[0] if arguments else "dist")):
        print(f"wrote {path}")


main(sys.argv[1:])
