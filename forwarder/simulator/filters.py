"""The documented filters of both streams, as tests on a row; pure.

`access_requests` has single values with an operator each (`app_uid=...&app_uidOp=neq`);
`scim/updates` has repeatable values, any of which may match. `user_id` is accepted and no longer
applied, as documented. The log rows hold no provider id, so `idp` is compared with the provider's
type, or through its id with that provider's type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forwarder.simulator.query import BadParameterError, Params, RowTest, choice

EQUALITY = ("eq", "neq")
VALUE_FILTERS = {
    "app_type": "app_type",
    "app_uid": "app_uid",
    "ray_id": "ray_id",
    "idp": "connection",
}
"""Parameter, and the row's key it is compared with."""

ENUMERATED = {
    "status": ("FAILURE", "SUCCESS"),
    "resource_type": ("USER", "GROUP"),
    "request_method": ("DELETE", "PATCH", "POST", "PUT"),
}
FREE = ("resource_user_email", "resource_group_name", "cf_resource_id", "idp_resource_id")


def access_filters(params: Params, idp_types: Mapping[str, str]) -> tuple[RowTest, ...]:
    """Return the tests that a row of `access_requests` must pass.

    `idp_types` maps the ids of the account's providers to their types.

    Raises:
        BadParameterError: a value or an operator is not a documented one.

    """
    choice(params, "user_idOp", EQUALITY)
    return tuple(
        test
        for group in (
            _email(params),
            _values(params, idp_types),
            _country(params),
            _flags(params),
        )
        for test in group
    )


def scim_filters(params: Params) -> tuple[RowTest, ...]:
    """Return the tests that a row of `scim/updates` must pass, but for `idp_id`.

    Raises:
        BadParameterError: a value is not one of a documented enumeration.

    """
    tests: list[RowTest] = []
    for name, allowed in (*ENUMERATED.items(), *((name, None) for name in FREE)):
        wanted = frozenset(params.getall(name, ()))
        if allowed is not None and not wanted.issubset(allowed):
            raise BadParameterError(f"{name} must be one of {', '.join(allowed)}")
        if wanted:
            tests.append(_any_of(name, wanted))
    return tuple(tests)


def _email(params: Params) -> Iterator[RowTest]:
    email = params.get("email")
    operator = choice(params, "emailOp", (*EQUALITY, "contains")) or "contains"
    if _flag(params, "email_exact") and operator == "contains":
        operator = "eq"
    if email is None:
        return
    if operator == "contains":
        yield lambda row: email in str(row.get("user_email", ""))
    else:
        yield _compared("user_email", email, operator)


def _values(params: Params, idp_types: Mapping[str, str]) -> Iterator[RowTest]:
    for name, key in VALUE_FILTERS.items():
        operator = choice(params, f"{name}Op", EQUALITY) or "eq"
        wanted = params.get(name)
        if wanted is not None:
            wanted = idp_types.get(wanted, wanted) if name == "idp" else wanted
            yield _compared(key, wanted, operator)


def _country(params: Params) -> Iterator[RowTest]:
    wanted = params.get("country_code")
    same = (choice(params, "country_codeOp", EQUALITY) or "eq") == "eq"
    if wanted is not None:
        code = wanted.upper()
        yield lambda row: (str(row.get("country", "")).upper() == code) is same


def _flags(params: Params) -> Iterator[RowTest]:
    allowed, same_allowed = _flag(params, "allowed"), _is_eq(params, "allowedOp")
    if allowed is not None:
        yield lambda row: (row.get("allowed") is allowed) is same_allowed
    machine, same_machine = _flag(params, "non_identity"), _is_eq(params, "non_identityOp")
    if machine is not None:
        yield lambda row: ((row.get("connection") == "nonidentity") is machine) is same_machine


def _is_eq(params: Params, name: str) -> bool:
    return (choice(params, name, EQUALITY) or "eq") == "eq"


def _flag(params: Params, name: str) -> bool | None:
    text = choice(params, name, ("true", "false"))
    return None if text is None else text == "true"


def _compared(key: str, wanted: str, operator: str) -> RowTest:
    same = operator == "eq"
    return lambda row: (row.get(key) == wanted) is same


def _any_of(name: str, wanted: frozenset[str]) -> RowTest:
    def test(row: dict[str, Any]) -> bool:
        found = row.get(name)
        if found is None and name == "request_method":
            found = row.get("http_method")
        return isinstance(found, str) and found in wanted

    return test
