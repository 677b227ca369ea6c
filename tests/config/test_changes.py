"""A reload touches what differs and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from forwarder.config.changes import Changes, Difference, changes
from forwarder.config.models import ForwarderSettings
from forwarder.core.contracts import StreamKey
from tests.config.conftest import GOOD

Build = Callable[..., ForwarderSettings]
LOGINS, CHANGES = StreamKey("a1", "logins"), StreamKey("a1", "changes")


def test_the_same_file_changes_nothing(settings_of: Build) -> None:
    same = settings_of(GOOD)

    assert changes(same, settings_of(GOOD)) == Changes(Difference(), Difference(), (), same.root)


def test_sinks_are_added_changed_and_removed_by_name(settings_of: Build) -> None:
    old = settings_of(GOOD + "  gone: { type: stdout }\n  same: { type: stdout }\n")
    new = settings_of(
        GOOD.replace("console: { type: stdout", "console: { type: stdout, paused: true")
        + "  same: { type: stdout }\n  fresh: { type: stdout }\n"
    )

    assert changes(old, new).sinks == Difference(("fresh",), ("console",), ("gone",))


def test_a_stream_that_is_switched_off_is_removed_and_the_other_stays(settings_of: Build) -> None:
    old = settings_of(GOOD)
    new = settings_of(GOOD.replace("logins: {}", "changes: {}"))

    assert changes(old, new).streams == Difference((CHANGES,), (), (LOGINS,))


def test_only_the_stream_whose_settings_differ_is_changed(settings_of: Build) -> None:
    old = settings_of(GOOD.replace("logins: {}", "logins: {}, changes: {}"))
    new = settings_of(GOOD.replace("logins: {}", "logins: {}, changes: { poll_interval: 3s }"))

    assert changes(old, new).streams == Difference((), (CHANGES,), ())


def test_a_new_token_changes_all_streams_of_its_account(settings_of: Build) -> None:
    new = settings_of(GOOD.replace("t0ken", "other"))

    assert changes(settings_of(GOOD), new).streams.changed == (LOGINS,)


def test_what_only_a_restart_applies_is_named(settings_of: Build) -> None:
    new = settings_of(GOOD + "state_dir: /x\njournal: { max_size: 1GiB }\nadmin: { listen: off }\n")

    assert changes(settings_of(GOOD), new).needs_restart == ("state_dir", "journal", "admin")


def test_the_generation_of_settings_needs_no_restart(settings_of: Build) -> None:
    journal = "journal: { type: postgres, dsn: host=db, settings_generation: %d }\n"
    old, new = settings_of(GOOD + journal % 1), settings_of(GOOD + journal % 2)

    assert changes(old, new).needs_restart == ()
    assert changes(old, new).root.journal.settings_generation == 2


def test_what_only_a_restart_applies_stays_as_it_is(settings_of: Build) -> None:
    old = settings_of(GOOD)
    new = settings_of(
        GOOD + "journal: { max_size: 1GiB }\nlog: { level: debug, format: console }\n"
    )
    root = changes(old, new).root

    assert (root.journal, root.log.format) == (old.root.journal, old.root.log.format)
    assert root.log.level == "debug"
