"""RELP frames: ``TXNR COMMAND DATALEN [DATA] LF``. Pure.

The rules are those of librelp's protocol description. Transaction numbers run from 1 to 999,999,999
and must rise by exactly one: rsyslog ends the session at a gap or a repeat.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import NamedTuple

_LAST_TXNR = 999_999_999
_HEAD = re.compile(rb"(\d{1,9}) ([A-Za-z]{1,32}) (\d{1,9})([ \n])")
_LONGEST_HEAD = 9 + 1 + 32 + 1 + 9 + 1
_LONGEST_DATA = 128 * 1024
_LONGEST_NUMBER = 9
_PLAIN = b"200 OK"
_PLAIN_END = b" rsp %d %b\n" % (len(_PLAIN), _PLAIN)


class MalformedError(Exception):
    """What the other side sent is no RELP."""


class Frame(NamedTuple):
    """What the other side sent; ``command`` is ``rsp`` or ``serverclose``."""

    txnr: int
    command: bytes
    data: bytes

    @property
    def accepted(self) -> bool:
        """Return whether it is an answer that starts with 200."""
        return self.data.startswith(b"200")

    @property
    def text(self) -> str:
        """Return the first line of the answer, for messages."""
        return self.data.split(b"\n", 1)[0][:200].decode(errors="replace")


def encode(txnr: int, command: bytes, data: bytes = b"") -> bytes:
    """Return one frame."""
    if not data:
        return b"%d %b 0\n" % (txnr, command)
    return b"%b%b\n" % (head(txnr, command, len(data)), data)


def head(txnr: int, command: bytes, size: int) -> bytes:
    """Return what stands before ``size`` bytes of data, at least one; a line feed follows them."""
    return b"%d %b %d " % (txnr, command, size)


def following(txnr: int) -> int:
    """Return the transaction number after ``txnr``; 1 follows the last one."""
    return txnr + 1 if txnr < _LAST_TXNR else 1


class Reader:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        """Start between two frames."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes; raises ``MalformedError``."""
        frames, data = _plain(self._rest + data)
        position = 0
        while (found := _HEAD.match(data, position)) is not None:
            length = int(found[3])
            start = found.end() if found[4] == b" " else found.end() - 1
            end = start + length
            if length > _LONGEST_DATA or (found[4] == b"\n" and length):
                raise MalformedError("a frame's length makes no sense")
            if end >= len(data):
                break
            if data[end] != ord("\n"):
                raise MalformedError("a frame does not end with a line feed")
            frames.append(Frame(int(found[1]), found[2], data[start:end]))
            position = end + 1
        self._rest = data[position:]
        if found is None and len(self._rest) > _LONGEST_HEAD:
            raise MalformedError("a frame's head cannot be read")
        return frames


def _plain(data: bytes) -> tuple[list[Frame], bytes]:
    """Cut off the frames at the front if all but the last, unfinished one are plain consent.

    That is what nearly all answers are: cutting them by what is alike saves a step for each.
    """
    front, _, rest = data.rpartition(_PLAIN_END)
    numbers = front.split(_PLAIN_END)
    lengths = set(map(len, numbers))
    if 0 in lengths or max(lengths) > _LONGEST_NUMBER or not b"".join(numbers).isdigit():
        return [], data
    answers = zip(map(int, numbers), repeat(b"rsp"), repeat(_PLAIN), strict=False)
    return list(map(tuple.__new__, repeat(Frame), answers)), rest
