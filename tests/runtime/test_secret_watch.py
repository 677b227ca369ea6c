"""A secret file that changes is noticed, also when Kubernetes swaps a link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from forwarder.runtime.reloading import SecretWatch, changed, stamps


def test_a_rewritten_file_has_changed_and_a_vanished_one_has_not(tmp_path: Path) -> None:
    kept, rewritten, vanished = (tmp_path / name for name in "abc")
    for file in (kept, rewritten, vanished):
        file.write_text("x")
    before = stamps([kept, rewritten, vanished])
    rewritten.write_text("longer")
    vanished.unlink()

    assert changed(before, stamps([kept, rewritten, vanished])) == [rewritten]


def test_a_swapped_link_has_changed(tmp_path: Path) -> None:
    """Kubernetes mounts ..data as a link to a folder and swaps the link."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text("same")
    (tmp_path / "data").symlink_to("v1")
    token = tmp_path / "token"
    token.symlink_to("data/token")
    before = stamps([token])
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(tmp_path / "data")

    assert changed(before, stamps([token])) == [token]


def test_a_new_file_in_the_list_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")

    assert changed({}, stamps([tmp_path / "a"])) == []


async def test_the_watch_tells_of_a_file_that_was_away_for_a_while(tmp_path: Path) -> None:
    token, seen = tmp_path / "token", list[Path]()
    token.write_text("old")
    steps = iter([token.unlink, lambda: token.write_text("fresh"), None])
    done = asyncio.Event()

    class Clock:
        def now_us(self) -> int:
            return 0

        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            assert seconds > 0
            step: Callable[[], object] | None = next(steps)
            if step is None:
                done.set()
                await asyncio.Event().wait()
            else:
                step()

    watch = SecretWatch(lambda: [token], seen.append, Clock())
    task = asyncio.create_task(watch.run(lambda: None))
    await asyncio.wait_for(done.wait(), 60)
    task.cancel()

    assert seen == [token]
