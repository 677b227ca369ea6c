"""``forwarder`` as it would be in a later release, whose tables have more versions."""

from __future__ import annotations

from functools import partial

from forwarder.cli import main
from forwarder.journal import postgres
from tests.integration.upgrading import NEXT

if __name__ == "__main__":
    upgrades = (*postgres.UPGRADES, *NEXT)
    postgres.Database = partial(postgres.Database, upgrades=upgrades)  # type: ignore[assignment,misc]
    main()
