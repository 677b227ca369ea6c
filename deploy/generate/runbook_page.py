"""The runbook that ships with the status page: docs/operations.md as a document of its own."""

from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

_HEAD = """\
<!-- Generated from docs/operations.md: make generate -->
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Runbook \u00b7 forwarder</title>
<style>/*STYLE*/</style>
</head>
<body>
<header><p><a href="./">Status</a></p></header>
<main id="content" class="runbook">
"""


def runbook_page(markdown: str) -> str:
    """Return the page; headings have the anchors of the rendered Markdown on a forge."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", anchor(inline.content))
    for token in tokens:
        token.children = _without_other_pages(token.children or [])
    return f"{_HEAD}{parser.renderer.render(tokens, parser.options, {})}</main>\n</body>\n</html>\n"


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def _without_other_pages(tokens: list[Token]) -> list[Token]:
    """Leave only the text of links to pages that do not ship with the program."""
    kept: list[Token] = []
    inside = False
    for token in tokens:
        if token.type == "link_open":
            inside = not str(token.attrGet("href")).startswith(("#", "https://"))
        if not (inside and token.type in {"link_open", "link_close"}):
            kept.append(token)
    return kept
