"""What an e-mail address is, as OCSF understands it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_EMAIL = r"[a-zA-Z0-9!#$%&'*+,\-./=?^_`{|}~]{1,64}+@[a-zA-Z0-9-]{1,63}+\.[a-zA-Z0-9-.]{1,125}+"
_are_lines = re.compile(f"(?:{_EMAIL}\n)*+").fullmatch

is_email = re.compile(_EMAIL).fullmatch
"""Says whether a text is an e-mail address (a match, or None)."""


def are_emails(texts: Iterable[str]) -> bool:
    """Say whether each of ``texts``, which have no line ends, is one; quicker than one by one."""
    return _are_lines("\n".join((*texts, ""))) is not None
