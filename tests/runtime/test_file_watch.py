"""A file that changes is noticed, also when Kubernetes swaps a link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from forwarder.runtime.reloading import FileWatch, changed, stamps


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


class Steps:
    """A clock that takes the next step instead of waiting, and says when all are taken."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.taken = asyncio.Event()
        self._steps = iter(steps)

    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        step = next(self._steps, None)
        if step is None:
            self.taken.set()
            await asyncio.Event().wait()
        else:
            step()


async def seen_by(watch: FileWatch, steps: Steps) -> None:
    task = asyncio.create_task(watch.run(lambda: None))
    await asyncio.wait_for(steps.taken.wait(), 60)
    task.cancel()


def nothing() -> None:
    pass


async def test_the_watch_tells_of_a_file_that_was_away_for_a_while(tmp_path: Path) -> None:
    token, seen = tmp_path / "token", list[Path]()
    token.write_text("old")
    steps = Steps(token.unlink, nothing, lambda: token.write_text("fresh"), nothing, nothing)
    await seen_by(FileWatch(lambda: [token], seen.append, steps), steps)

    assert seen == [token]


async def test_a_file_is_left_alone_while_it_is_being_written(tmp_path: Path) -> None:
    file, seen = tmp_path / "config.yaml", list[str]()
    file.write_text("")

    def write(text: str) -> Callable[[], object]:
        return lambda: file.write_text(text)

    steps = Steps(write("a"), write("ab"), write("abc"), nothing, nothing)
    watch = FileWatch(lambda: [file], lambda path: seen.append(path.read_text()), steps)
    await seen_by(watch, steps)

    assert seen == ["abc"]


async def test_a_change_before_the_watch_began_is_noticed(tmp_path: Path) -> None:
    file, seen = tmp_path / "config.yaml", list[Path]()
    file.write_text("old")
    read = stamps([file])
    file.write_text("newer")
    steps = Steps(nothing, nothing)
    await seen_by(FileWatch(lambda: [file], seen.append, steps, read), steps)

    assert seen == [file]
