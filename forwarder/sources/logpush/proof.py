"""Proves to another replica that this one has the push secret, without sending it.

A proof is a time, a nonce and tags: HMAC-SHA256 over these and over what is claimed, one tag for
each secret of the file. While the secret changes, replicas may have different files: one secret in
common is enough. A short secret can be guessed from a tag.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

CLOCKS_S = 60
"""Seconds that the clocks of two replicas may differ, the way between them included."""
_PROOF = re.compile(r"([0-9]{1,12}) ([0-9a-f]{32}) ([0-9a-f]{64}(?:,[0-9a-f]{64})*)")


def tags(secrets: Sequence[str], *claims: str) -> str:
    """Return a tag for each secret, in hexadecimal and joined by commas."""
    # With their lengths: otherwise what ends one claim could begin the next.
    parts = [claim.encode(errors="surrogateescape") for claim in claims]
    text = b"".join(b"%d:%b," % (len(part), part) for part in parts)
    return ",".join(hmac.digest(secret.encode(), text, "sha256").hex() for secret in secrets)


def have_common(given: str, own: str) -> bool:
    """Return True if a tag is in both texts; each pair is compared in constant time."""
    theirs = given.encode(errors="surrogateescape").split(b",")
    ours = own.encode().split(b",") if own else []
    matches = [hmac.compare_digest(one, other) for one in theirs for other in ours]
    return any(matches)


def prove(secrets: Sequence[str], now_s: int, nonce: str, *claims: str) -> str:
    """Return a proof; ``nonce`` is 32 random hexadecimal digits."""
    return f"{now_s} {nonce} {tags(secrets, str(now_s), nonce, *claims)}"


class Verifier:
    """Accepts proofs of other replicas, each of them once."""

    def __init__(self) -> None:
        """Have seen none."""
        self._seen: dict[str, int] = {}

    def refusal(self, proof: str, secrets: Sequence[str], now_s: int, *claims: str) -> str:
        """Return why a proof is refused, as a sentence; empty if it is accepted."""
        form = _PROOF.fullmatch(proof)
        made, nonce, given = form.groups() if form else ("", "", "")
        if not have_common(given, tags(secrets, made, nonce, *claims)):
            return "it proves no secret of this replica: a replica with another one, or a stranger"
        behind = now_s - int(made)
        if abs(behind) > CLOCKS_S:
            side = "behind" if behind > 0 else "ahead of"
            apart = f"the clock of that replica is {abs(behind)} s {side} the clock of this one"
            return f"{apart}, or the request was long on its way; at most {CLOCKS_S} s are allowed"
        # A proof by a clock that is ahead stays valid for twice the difference.
        while self._seen and next(iter(self._seen.values())) < now_s - 2 * CLOCKS_S:
            del self._seen[next(iter(self._seen))]
        if nonce in self._seen:
            return "the proof of a replica came a second time"
        self._seen[nonce] = now_s
        return ""
