"""Rows of the authentication log (``access_requests``) as events of the common schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

from forwarder.core.login import (
    FAILURE,
    LOGIN_TEXTS,
    LONGEST_USER,
    SHORT,
    SUCCESS,
    UNKNOWN,
    Login,
    LoginShape,
    Origin,
    is_easy,
    oddities,
)
from forwarder.core.masking import mask_row
from forwarder.core.schema import MALFORMED_KEY, Glimpse, Normaliser
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.login_columns import read_logins
from forwarder.sources.cloudflare_access.login_reading import KNOWN_KEYS, LIVE_ONLY, read_login
from forwarder.sources.cloudflare_access.normalise_login_values import (
    ip_version,
    is_country,
    split_domain,
    user_kind,
)

_email_of, _allowed_of = itemgetter("user_email"), itemgetter("allowed")


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in ``row``; see ``core.schema.Normalise``."""
    shape, texts, _ = read_login(row, origin, time_us)
    if shape is None:
        return _sort_out(row, origin, id, time_us)
    return Login(origin, id, time_us, row, texts, shape)


def _sort_out(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row, whatever it holds."""
    row = mask_row(row)
    found, quality, has_extra = _sift(row)
    email, texts = found["user_email"], (*found.values(), *split_domain(found["app_domain"]))
    together, allowed = "".join(found.values()), _boolean(row.get("allowed"))
    short = len(together) <= SHORT and len(email) <= LONGEST_USER
    plain = short and (origin.plain or is_easy(together, email, timed=True))
    shape = LoginShape(
        allowed,
        found["action"],
        found["connection"],
        ip_version(found["ip_address"]),
        user_kind(email),
        len(texts),
    )
    if quality or has_extra or not plain or "" in texts:
        present = tuple(map(bool, texts))
        shape = shape._replace(odd=oddities(quality, present, has_extra=has_extra, plain=plain))
    return Login(origin, id, time_us, row, texts, shape)


def _sift(row: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...], bool]:
    """Return the texts of ``row``, its quality, and whether there is more than the schema knows."""
    texts, faults, has_extra = {}, [], not KNOWN_KEYS.issuperset(row)
    for key in LOGIN_TEXTS:
        value = row.get(key)
        texts[key] = value if isinstance(value, str) and _FITS.get(key, _anything)(value) else ""
        misfit = value not in (None, "") and not texts[key]
        has_extra = has_extra or misfit
        if misfit or (not value and key not in LIVE_ONLY):
            faults.append(key)
    if _boolean(row.get("allowed")) is None:
        faults.append("allowed")
        has_extra = has_extra or row.get("allowed") is not None
    if parse_us(texts["created_at"]) is None:
        faults = ["time", *(key for key in faults if key != "created_at")]
    texts["country"] = texts["country"].upper()
    return texts, ("malformed",) if MALFORMED_KEY in row else tuple(faults), has_extra


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _anything(_: str) -> bool:
    return True


def glance_logins(rows: Sequence[Mapping[str, Any]], origin: Origin) -> Glimpse:
    """See ``forwarder.core.schema.Glance``. Usual rows take a way without a step a row."""
    accounts = repeat(origin.account)
    try:
        users, allowed = list(map(_email_of, rows)), list(map(_allowed_of, rows))
        if "".join(users) and "" not in users and set(map(type, allowed)) == {bool}:
            return Glimpse(accounts, list(map(_OUTCOMES.__getitem__, allowed)), users)
    except (KeyError, TypeError):
        pass
    outcomes = [_OUTCOMES[_boolean(row.get("allowed"))] for row in rows]
    users = [_text(row.get("user_email")) or _text(row.get("user_id")) for row in rows]
    return Glimpse(accounts, outcomes, users)


_FITS: dict[str, Callable[[str], bool]] = {
    "ip_address": lambda ip: ip_version(ip) != 0,
    "country": is_country,
}
_OUTCOMES = {True: SUCCESS, False: FAILURE, None: UNKNOWN}

LOGINS = Normaliser(normalise_login, glance_logins, read_logins, KNOWN_KEYS)
"""How the rows of stream ``access_requests`` become events."""
