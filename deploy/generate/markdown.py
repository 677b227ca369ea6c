"""As much of Markdown as is needed to look after the documentation. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text without indentation, and its line from 1."""

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for match in _FENCE.finditer(page):
        indent, language, body = match.groups()
        text = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        yield Block(language, text, page.count("\n", 0, match.start()) + 1)


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """Return the targets of all links outside of code."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def codes(page: str) -> list[str]:
    """Return what stands between back quotes outside of blocks."""
    return _CODE.findall(prose(page))


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        plain = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        found.add(f"{plain}-{seen[plain]}" if seen[plain] else plain)
        seen[plain] += 1
    return found


def title(page: str) -> str:
    """Return the text of the first heading."""
    match = _HEADING.search(prose(page))
    return match[1] if match else ""
