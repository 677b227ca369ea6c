"""The volume turns read-only under the running daemon, as ext4 does when it meets an error.

An open file keeps a volume from being remounted read-only by hand, so the kernel gets a
report that the volume has a fault. Such a volume stays read-only until it is mounted again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.ledger import Ledger
from tests.proof.sinks import five
from tests.proof.site import missing, site

_OPTIONS = ("--rate", "30", "--scim-rate", "3", "--history", "3m")


class Volume:
    """An ext4 in a file, without a journal of its own, so that it can be repaired at once."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        self._image = image

    def make(self) -> None:
        self.folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(64 * 2**20)
        _run("mkfs.ext4", "-q", "-O", "^has_journal", self._image)

    def mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.folder)

    def turn_read_only(self) -> None:
        device = Path(_run("findmnt", "--noheadings", "--output", "SOURCE", self.folder).strip())
        Path("/sys/fs/ext4", device.name, "trigger_fs_error").write_text("1\n")

    def repair(self) -> None:
        """Do what an operator does: take it away, check it, mount it again."""
        self.unmount()
        subprocess.run(["fsck.ext4", "-y", "-f", self._image], check=False, capture_output=True)
        self.mount()

    def unmount(self) -> None:
        _run("umount", self.folder)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    made = Volume(tmp_path / "image", tmp_path / "volume")
    try:
        made.make()
        made.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a loop device with ext4 needs privileges that are not there: {error}")
    yield made
    made.unmount()


@pytest.mark.timeout(300)
async def test_a_volume_that_turns_read_only_is_told_of_and_costs_nothing(
    tmp_path: Path, volume: Volume, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        daemon.settings["state_dir"] = str(volume.folder / "state")
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived, 90)
        volume.turn_read_only()
        await until(lambda: "journal_troubled" in daemon.errors(), 90)
        url = next(line["url"] for line in daemon.log() if line["event"] == "admin_listening")
        async with ClientSession() as http, http.get(url + "/livez") as answer:
            alive = answer.status
        await daemon.stop(60)
        said = daemon.errors()
        volume.repair()
        repaired = time.monotonic()
        await daemon.start()
        await daemon.running()
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        recovery = time.monotonic() - repaired
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead.get("bulk", set())})
        opinion = await audited(daemon)
        code, _ = await daemon.command("check", "--journal")

        assert left == dict.fromkeys(sinks.books, 0)
        assert alive == 200
        assert "Traceback" not in said
        assert code == 0
        ledger.row(
            "Disk",
            "the kernel turns the volume (ext4) read-only under the daemon; repaired, restarted",
            times=1,
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=recovery,
            more=f"the reason is logged, /livez stays 200; {opinion}",
        )
