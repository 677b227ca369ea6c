"""Write the app's package: ``python -m deploy.splunk [FOLDER]``, ``dist`` if none is given."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.splunk.package import APP, package


def main(arguments: list[str]) -> None:
    """Write ``cloudflare_access_forwarder.tgz`` into the folder, and name it."""
    folder = Path(arguments[0] if arguments else "dist")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{APP.name}.tgz"
    target.write_bytes(package())
    print(f"wrote {target}")


main(sys.argv[1:])
