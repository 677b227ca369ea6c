"""Hides secrets in rows: in bodies, headers and addresses, known by their name or by their form.

Called by the source on every row *after* its identity is taken, so that the journal never holds
a password, and again when a row is normalised, for rows stored by an older version.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson

from forwarder.core.schema import RAW_BYTES_KEY

MASK = "**********"
REMOVED = "[removed]"
"""Stands for a text that a sink is not to get."""
UNREADABLE = "[masked: an unreadable body that may hold a secret]"

_WORDS = re.compile(
    "password|passwd|passphrase|passcode|pwd|secret|token|credential"
    "|(?:access|api|auth|encryption|hmac|private|shared|sign|signing)key"
    "|authorization|bearer|jwt|destinationconf"
)
# Names of their own, but parts of harmless words: there is a pin in shipping.
_EXACT = frozenset({"auth", "cookie", "cookies", "otp", "pass", "pin", "psk", "setcookie"})
_HARMLESS = frozenset(
    {
        *("tokenid", "tokenname", "servicetokenid", "servicetokenname", "appuid"),
        *("tokenurl", "tokenendpoint", "tokentype", "signingkeyid"),
        *("authorizationurl", "authorizationendpoint", "authorizationserverid"),
    }
)
"""Names of what says which secret it is, or where one gets it."""
_SIGNATURES = frozenset({"samlresponse", "sig", "signature", "xamzsignature"})
"""Names of secrets in the query of an address; elsewhere a signature says nothing by itself."""
_TARGET = "destination_conf"
"""The address of a Logpush job: its query has the keys of a bucket, or a header with a password."""
# Bounded repeats: a hostile text must not make the search slow.
_ASSIGNED = re.compile(
    rf"(?i)((?:{_WORDS.pattern})[a-z_-]{{0,20}}[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?"
    r"(?:(?:basic|bearer|splunk|token)\s{1,3})?)[^\s\"',;&]+"
)
_QUERY = re.compile(r"((?:^|[?&#])([^\s?&=#]{1,64})=)[^\s&#]+")
_HEADER = re.compile(r"([A-Za-z0-9_-]{1,64}):\s+\S.*", re.DOTALL)
# What people write before a colon is no header; a word with a hyphen in it is.
_HEADER_LINE = re.compile(
    r"(?im)^(authorization|cookie|[a-z][a-z0-9]{0,32}(?:-[a-z0-9]{1,32}){1,6}):[ \t]*\S.*$"
)
_USERINFO = re.compile(r"(://[^\s/?#@:\"]*:)[^\s/?#@\"]+(?=@)")
# Addresses whose path is all that one needs to write there.
_HOOK = re.compile(
    r"((?://hooks\.slack\.com|//discord(?:app)?\.com/api/webhooks|\.webhook\.office\.com"
    r"|\.sumologic\.com|sumo://[^\s/\"]+)/)[^\s?\"]+"
)
_PEM = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----).*?(?=-----END|\Z)", re.DOTALL
)
_SCHEME = re.compile(r"(?i)(\b(?:basic|bearer)\s{1,3})[\w.~+/=-]{16,}")
_NAMING_KEYS = frozenset(
    {"path", "name", "key", "attribute", "type", "id", "property", "header", "field"}
)
_VALUE_KEYS = frozenset(
    {
        *("value", "values", "val", "data", "text", "content", "default"),
        *("old", "new", "oldvalue", "newvalue", "before", "after"),
    }
)
"""Where the secret stands if its name is beside it; all else says something about it."""
_HINTS = tuple(b"auth bearer cookie cred dest jwt key otp pass pin psk pwd secret token".split())
"""One of them is in each of the words above; it costs less to look for these."""
_IN_HINTS = frozenset(b"".join(_HINTS))
_TO_SMALL = bytes(range(256)).lower()
_NOT_IN_HINTS = bytes(code for code in range(256) if code | 0x20 not in _IN_HINTS)
"""What no hint contains, such as digits: without it there is less to search."""
_NOISE = re.compile(r"[^a-z0-9]+")
# A SCIM path may hold a filter (RFC 7644, 3.5.2): emails[type eq "work"].
_FILTER = re.compile(r"\[.*?(\]|$)", re.DOTALL)
# JSON may write any letter as an escape (RFC 8259, 7), and so hide a word: p\u0061ssword.
_ESCAPE = re.compile(r"\\[^\"/]")
# From the first backslash of a run only: tried at each, a long run takes quadratic time.
_CODE = re.compile(r"(?<!\\)\\++u([0-9a-fA-F]{4})")
_CONTROL = re.compile(r"(?<!\\)\\++[bfnrt]")
_DEEPEST = 100
_DOCUMENT = re.compile(r"[\s\ufeff]*(?:\{\s*(?:\\*[\"'}]|$)|\[\s*(?:\\*[\"'\[\]{]|$))")
"""What begins like this is JSON, if perhaps broken; ``[EXTERNAL] your password`` is a subject."""
_NOTHING = frozenset[str]()
_GZIP, _WBITS = b"\x1f\x8b", 31
_MOST_UNPACKED = 4 * 2**20


def mask_request_body(text: str) -> str:
    """Return ``text``, a JSON document or what is left of one, without its secrets.

    Masked is whatever stands under a key like ``password``, ``client_secret`` or ``api-key`` at
    any depth (also in JSON inside a string, in a list of headers and in the query of an address),
    and the ``value`` of a SCIM operation whose ``path`` is one; further what is a secret by its
    form, see ``mask_text``. What else stands beside a name stays: a policy that somebody calls
    ``token`` must not be out of sight. A document that names no such thing comes back as it is.
    One that does and cannot be read as JSON is replaced as a whole: where its secrets begin and
    end is anybody's guess.
    Pure, total and idempotent.
    """
    return _mask_json(text, _DEEPEST, _NOTHING)


def mask_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``row`` without secrets in body and error; the very same object if it has none.

    The bytes of a row that could not be read are taken out if they name a secret.
    """
    body, data = row.get("request_body"), row.get(RAW_BYTES_KEY)
    error = row.get("error_description")
    if error and error != (masked_error := mask_error(error)):
        row = {**row, "error_description": masked_error}
    if body is not None:
        masked = mask_request_body(body) if isinstance(body, str) else mask_value(body)
        if masked != body:
            row = {**row, "request_body": masked}
    # UNREADABLE has the word secret in it, and masking twice must change nothing.
    if data not in (None, UNREADABLE) and _holds_secret(_decoded(data)):
        row = {**row, RAW_BYTES_KEY: UNREADABLE}
    return row


def mask_columns(row: Mapping[str, Any], *, named: bool = True) -> Mapping[str, Any]:
    """Return ``row`` without secrets in any of its values; the very same object if it has none.

    Its own keys count as names only if it is ``named``, or above an object, such as cookies: not
    all that is called a token is one. What other keys say, such as a ``type``, never makes a secret
    of a value beside it.
    """
    found = {
        key: masked
        for key, value in row.items()
        if (masked := _mask_column(key, value, named=named)) is not value and masked != value
    }
    return {**row, **found} if found else row


def mask_nested(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``row`` without secrets in its values; the very same object if it has none.

    The names at the top are Cloudflare's own, which say nothing of secrets; those of headers and
    in bodies do, also where they are JSON in a text.
    """
    return mask_columns(mask_row(row), named=False)


def _mask_column(key: str, value: Any, *, named: bool) -> Any:
    if key == RAW_BYTES_KEY:
        return value
    if named and is_secret_name(key):
        return _hide(value)
    if isinstance(value, str):
        return _mask_string(value, _DEEPEST, _NOTHING)
    if isinstance(value, dict) and is_secret_name(key):
        return {inner: _hide(one) for inner, one in value.items()}
    return mask_value(value) if isinstance(value, dict | list) else value


def mask_value(value: Any, also: frozenset[str] = _NOTHING) -> Any:
    """Return a JSON value without its secrets, by the rules of ``mask_request_body``.

    Texts under the keys in ``also`` (in small letters) are secrets, too.
    """
    return _mask(value, _DEEPEST, also)


def mask_error(error: Any) -> Any:
    """Return an ``error_description`` without secrets: as a body, or as words with a value.

    ``password=hunter2`` and ``token: abc`` lose their values; a sentence about a password stays.
    """
    if not isinstance(error, str):
        return mask_value(error)
    if error.lstrip()[:1] not in {"{", "["}:
        error = _ASSIGNED.sub(rf"\1{MASK}", error)
    return _mask_string(error, _DEEPEST, _NOTHING)


def mask_text(text: str) -> str:
    """Return a text that is not JSON without what is a secret by its form.

    That is a private key in PEM, the password of an address, a parameter of its query with the name
    of a secret, the address of a webhook, and a header that lets somebody in.
    """
    if "=" in text:
        text = _QUERY.sub(_masked_parameter, text)
    if ":" in text:
        text = _HEADER_LINE.sub(_masked_header, text)
    if "://" in text:
        text = _USERINFO.sub(rf"\1{MASK}", text)
        if "hook" in text or "sumo" in text:
            text = _HOOK.sub(rf"\1{MASK}", text)
    if "-----BEGIN" in text:
        text = _PEM.sub(rf"\1{MASK}", text)
    if "asic" in text or "earer" in text or "ASIC" in text or "EARER" in text:
        text = _SCHEME.sub(rf"\1{MASK}", text)
    return text


def is_secret_name(name: str) -> bool:
    """Return True if a key of this name holds a secret; case and punctuation do not matter."""
    squeezed = _squeezed(name)
    if squeezed in _HARMLESS:
        return False
    return squeezed in _EXACT or _WORDS.search(squeezed) is not None


def _squeezed(name: str) -> str:
    return _NOISE.sub("", name.lower())


def _mask_json(text: str, depth: int, also: frozenset[str]) -> str:
    if text == UNREADABLE or not (also or _suspicious(text)):
        return text
    try:
        masked = _mask(orjson.loads(text), depth, also)
        return orjson.dumps(masked).decode()
    except (ValueError, TypeError):
        return UNREADABLE if _holds_secret(_unescaped(text)) else text


def _suspicious(text: str) -> bool:
    """Return True if a secret may be in ``text``, spelled out or behind an escape."""
    return _holds_secret(text) or ("\\" in text and _ESCAPE.search(text) is not None)


def _holds_secret(text: str) -> bool:
    """Return True if ``text`` names a secret, or holds something that is one by its form."""
    if _names_secret(text):
        return True
    slashes = text.replace("\\/", "/")
    return mask_text(slashes) != slashes


def _unescaped(text: str) -> str:
    """Undo the escapes of JSON, however often they were applied, near enough to find a word."""
    letters = _CODE.sub(lambda found: chr(int(found[1], 16)), text)
    return _CONTROL.sub("", letters)


def _names_secret(text: str) -> bool:
    # Some letters beyond ASCII become ASCII in small letters, such as the Kelvin sign.
    data = (text if text.isascii() else text.lower()).encode("utf-8", "surrogatepass")
    squeezed = data.translate(_TO_SMALL, _NOT_IN_HINTS)
    for hint in _HINTS:
        if hint in squeezed:
            break
    else:
        return False
    lower = text.lower()
    return _WORDS.search(_NOISE.sub("", lower)) is not None or any(word in lower for word in _EXACT)


def _decoded(data: Any) -> str:
    """Return what base64 stands for, as far as it is a text, packed or not."""
    try:
        found = base64.b64decode(data)
    except (TypeError, ValueError):
        return str(data)
    return (_unpacked(found) if found.startswith(_GZIP) else found).decode("utf-8", "replace")


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=_WBITS).decompress(packed, _MOST_UNPACKED)
    except zlib.error:
        # Whoever is patient can read a part of it, and nobody knows what is in there.
        return b"secret"


def _mask(value: Any, depth: int, also: frozenset[str]) -> Any:
    if depth <= 0:
        # Too deep to look into: a mask too many is better than a secret.
        return MASK
    if isinstance(value, dict):
        return _mask_object(value, depth, also)
    if isinstance(value, list):
        return [_mask_item(item, depth - 1, also) for item in value]
    return _mask_string(value, depth, also) if isinstance(value, str) else value


def _mask_string(text: str, depth: int, also: frozenset[str]) -> str:
    match text.lstrip().removeprefix("\ufeff")[:1]:
        case "{" | "[":
            masked = _mask_json(text, depth - 1, also)
            if masked is not UNREADABLE or _DOCUMENT.match(text):
                return masked
            text = _ASSIGNED.sub(rf"\1{MASK}", text)
        case '"' if isinstance(inner := _loaded(text), str):
            # JSON in a text, written as a text once more.
            masked = _mask(inner, depth - 1, also)
            return text if masked == inner else orjson.dumps(masked).decode()
    return mask_text(text)


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _mask_item(item: Any, depth: int, also: frozenset[str]) -> Any:
    """Mask an item of a list, which may be a header: ``["name", "value"]``, ``"name: value"``."""
    match item:
        case [str(name), value] if is_secret_name(name):
            return [name, _hide(value)]
        case str() if (header := _HEADER.fullmatch(item)) and is_secret_name(header[1]):
            return f"{header[1]}: {MASK}"
    return _mask(item, depth, also)


def _masked_parameter(found: re.Match[str]) -> str:
    return found[1] + MASK if _is_secret_parameter(found[2]) else found[0]


@lru_cache(4096)
def _is_secret_parameter(name: str) -> bool:
    name = unquote(name)
    return is_secret_name(name) or _squeezed(name) in _SIGNATURES


def _masked_header(found: re.Match[str]) -> str:
    return f"{found[1]}: {MASK}" if is_secret_name(found[1]) else found[0]


def _mask_target(address: str) -> str:
    """Return the address of a Logpush job without its query."""
    place, question, _ = mask_text(address).partition("?")
    return f"{place}?{MASK}" if question else place


def _mask_object(given: dict[str, Any], depth: int, also: frozenset[str]) -> dict[str, Any]:
    # SCIM changes a value by {"path": "password", "value": ...} (RFC 7644, 3.5.2): the secret's
    # name stands beside the secret, not above it.
    names_secret = any(
        key.lower() in _NAMING_KEYS and isinstance(value, str) and _is_secret_path(value)
        for key, value in given.items()
    )
    masked = {}
    for key, value in given.items():
        if isinstance(value, str) and key.lower() == _TARGET:
            masked[key] = _mask_target(value)
        elif isinstance(value, str) and key.lower() in also:
            masked[key] = MASK
        elif (is_secret_name(key) and not _says_which(value)) or (
            names_secret and _squeezed(key) in _VALUE_KEYS
        ):
            masked[key] = _hide(value)
        elif names_secret and isinstance(value, str) and key.lower() in _NAMING_KEYS:
            # A filter may hold the secret itself: tokens[value eq "..."].
            masked[key] = _FILTER.sub(f"[{MASK}]", mask_text(value))
        else:
            masked[key] = _mask(value, depth - 1, also)
    return masked


def _says_which(value: Any) -> bool:
    """Return True for what a rule says of a token: ``{"token_id": "..."}``, or ``{}`` for any."""
    return isinstance(value, dict) and all(
        isinstance(one, bool) or (_squeezed(key) in _HARMLESS and isinstance(one, str))
        for key, one in value.items()
    )


def _is_secret_path(path: str) -> bool:
    return is_secret_name(_FILTER.sub("", path))


def _hide(value: Any) -> Any:
    """Mask anything but what says only that there is, or is not, something."""
    return value if value is None or isinstance(value, bool) else MASK
