"""What rows with the same keys have in common, found once: how the fast way takes texts out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from forwarder.core.identity import members

Row = Mapping[str, Any]


class Layout(NamedTuple):
    """What all rows with the same keys, in the same order, have in common.

    ``texts_of`` takes the texts out of a row; ``lacks`` of them have no key and are empty. ``odd``
    says which texts there are and whether there are unknown keys; None if all known keys are there
    and no other, so that shapes of most rows are short. ``extra_of`` gives the unknown members of a
    row as JSON; None if there are none. ``usual`` is False if such rows are never usual.
    """

    usual: bool
    texts_of: Callable[[Row], tuple[Any, ...]]
    lacks: int
    odd: Hashable
    extra_of: Callable[[Row], str] | None

    @classmethod
    def of(
        cls, keys: Sequence[str], texts: Sequence[str], known: frozenset[str], *, usual: bool
    ) -> Layout:
        """Return the layout of rows with these keys, of which those named ``texts`` are wanted."""
        unknown = [key for key in keys if key not in known]
        present = tuple(key in keys for key in texts)
        lacks = present.count(False)
        return cls(
            usual=usual,
            texts_of=_picker(keys, texts) if lacks else itemgetter(*texts),
            lacks=lacks,
            odd=(present, bool(unknown)) if lacks or unknown else None,
            extra_of=partial(_members_of, unknown) if unknown else None,
        )

    def odd_of(self, texts: Sequence[str]) -> Hashable:
        """Return ``odd`` of a row with these texts: some may be empty that have a key."""
        if all(texts) or texts.count("") == self.lacks:
            return self.odd
        return tuple(map(bool, texts)), self.extra_of is not None


def _picker(keys: Sequence[str], texts: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
    """Return what takes ``texts`` out of rows that lack some, by place: a step a text is slow."""
    pick = itemgetter(*(keys.index(key) if key in keys else -1 for key in texts))
    return lambda row: pick([*row.values(), ""])


def _members_of(keys: Sequence[str], row: Row) -> str:
    return members({key: row[key] for key in keys})


def without_nulls(texts: Sequence[Any]) -> tuple[str, ...]:
    """Return ``texts`` with nothing for each null; no text at all if a value is no text."""
    found = ["" if text is None else text for text in texts]
    return tuple(found) if all(isinstance(text, str) for text in found) else ("",) * len(found)
