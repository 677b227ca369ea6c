"""Where a row comes from: what all rows of one page share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from forwarder.core.model import StoredPage

LONGEST_USER, SHORT = 254, 1000
"""In bytes, of a user and of all texts of a row: no format has to cut what is no longer."""

_SPECIAL = frozenset('"\\=|')
_PLAIN_ASCII = bytes(code for code in range(0x20, 0x7F) if chr(code) not in _SPECIAL)


class Origin(NamedTuple):
    """What all rows of one page share.

    ``account`` is the account's label, ``seen_us`` when the page was first seen. ``plain`` says
    that no text in its rows needs escaping or cleaning in any format (see ``is_plain``) and that
    each row had a usable time; False says nothing.
    """

    account_id: str
    account: str
    stream: str
    seen_us: int
    plain: bool = False


def origin_of(page: StoredPage, account: str) -> Origin:
    """Return what the rows of ``page`` share; ``account`` is the label of its account."""
    plain = page.seen_us not in page.times_us and _is_plain_body(page.body)
    return Origin(page.account_id, account, page.stream, page.seen_us, plain)


def is_plain(text: str) -> bool:
    r"""Say whether ``text`` stands for itself in every format.

    It does when all is printable and none of ``"``, ``\``, ``=`` and ``|`` is in it.
    """
    if text.isascii():
        return not text.encode().translate(None, _PLAIN_ASCII)
    return text.isprintable() and not _SPECIAL & set(text)


def is_easy(together: str, user: str, *, timed: bool) -> bool:
    """Say of a row what ``Origin.plain`` says of a page, and that no format has to cut a text.

    ``together`` is all its texts, ``user`` the one that names the user; ``timed`` says that the
    row has a usable time.
    """
    if not timed or len(together) > SHORT or len(user) > LONGEST_USER or not is_plain(together):
        return False
    return together.isascii() or (
        len(together.encode()) <= SHORT and len(user.encode()) <= LONGEST_USER
    )


def are_easy(together: Sequence[str], *, plain: bool) -> bool:
    """Say of a page's rows what ``is_easy`` says of one, but for its time and its user.

    ``together`` is all texts of each row; ``plain`` is ``Origin.plain``.
    """
    return (plain or is_plain("".join(together))) and longest(together) <= SHORT


def longest(texts: Sequence[str]) -> int:
    """Return the bytes of the longest of ``texts``, in UTF-8, which has to be able to hold them."""
    plain = "".join(texts).isascii()
    return max(map(len, texts if plain else map(str.encode, texts)), default=0)


def _is_plain_body(body: bytes) -> bool:
    r"""Say whether each text of a JSON document is plain, quickly and without a false yes.

    JSON writes quotes, control characters and ``\`` with a ``\``; so none of those is in any text
    when there is no ``\`` at all.
    """
    return (
        b"\\" not in body
        and b"=" not in body
        and b"|" not in body
        and b"\x7f" not in body
        and body.isascii()
    )
