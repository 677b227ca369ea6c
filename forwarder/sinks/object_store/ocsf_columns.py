"""The columns of OCSF events in Parquet: all that the format ``ocsf`` writes, in any version.

A column is ``str``, ``int`` (32 bits), ``LONG`` (64 bits), ``bool``, a group of columns, a list
with one of these, or ``TEXTS``: texts by name. A column keeps its type in every object, also when
an object has no value for it: readers of many objects demand that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

LONG: Final = "long"
TEXTS: Final = "texts"

Columns: TypeAlias = Mapping[str, Any]
"""Types of columns by name."""

_NAMED: Columns = {"name": str, "uid": str}
_PRODUCT: Columns = {"name": str, "vendor_name": str, "version": str}
_GROUP: Columns = {**_NAMED, "uid_alt": str}
_USER: Columns = {**_GROUP, "email_addr": str, "type_id": int, "type": str}

SHARED: Columns = {
    "time": LONG,
    "category_uid": int,
    "category_name": str,
    "class_uid": int,
    "class_name": str,
    "activity_id": int,
    "activity_name": str,
    "type_uid": LONG,
    "type_name": str,
    "severity_id": int,
    "severity": str,
    "status_id": int,
    "status": str,
    "status_code": str,
    "status_detail": str,
    "message": str,
    "metadata": {
        "version": str,
        "product": _PRODUCT,
        "profiles": [str],
        "uid": str,
        "tenant_uid": str,
        "logged_time": LONG,
        "original_time": str,
        "event_code": str,
        "log_name": str,
        "log_provider": str,
        "labels": [str],
    },
    "cloud": {"provider": str, "account": _NAMED},
    "observables": [{"name": str, "type_id": int, "type": str, "value": str}],
    "raw_data": str,
    "unmapped": TEXTS,
}
"""Columns of every class."""

_ACTOR: Columns = {"app_name": str, "app_uid": str, "idp": _NAMED, "user": _USER}
_ENDPOINT: Columns = {
    **_NAMED,
    "ip": str,
    "hostname": str,
    "port": int,
    "location": {"country": str},
}
_API: Columns = {
    "operation": str,
    "request": {"uid": str},
    "response": {"code": int},
    "service": {"name": str},
}
_REQUEST: Columns = {
    "uid": str,
    "http_method": str,
    "body_length": int,
    "user_agent": str,
    "referrer": str,
    "version": str,
    "url": {
        "url_string": str,
        "scheme": str,
        "hostname": str,
        "port": int,
        "path": str,
        "query_string": str,
    },
}
_TRAFFIC: Columns = {
    "duration": LONG,
    "actor": _ACTOR,
    "src_endpoint": _ENDPOINT,
    "dst_endpoint": _ENDPOINT,
    "traffic": {"bytes_out": LONG, "bytes_in": LONG},
}

OF_CLASS: Mapping[int, Columns] = {
    3002: {
        "action_id": int,
        "action": str,
        "disposition_id": int,
        "disposition": str,
        "auth_protocol_id": int,
        "auth_protocol": str,
        "auth_factors": [
            {"factor_type_id": int, "factor_type": str, "provider": str, "email_addr": str}
        ],
        "is_remote": bool,
        "user": _USER,
        "actor": _ACTOR,
        "src_endpoint": _ENDPOINT,
        "dst_endpoint": _ENDPOINT,
        "service": _NAMED,
        "http_request": _REQUEST,
        "api": _API,
        "count": int,
    },
    3001: {"actor": _ACTOR, "user": _USER, "http_request": _REQUEST},
    3004: {
        "actor": _ACTOR,
        "entity": {**_NAMED, "type": str, "type_id": int},
        "http_request": _REQUEST,
        "src_endpoint": _ENDPOINT,
        "api": _API,
    },
    3006: {
        "actor": _ACTOR,
        "group": _GROUP,
        "user": _USER,
        "users": [_USER],
        "subgroup": _GROUP,
        "http_request": _REQUEST,
    },
    3007: {"actor": _ACTOR, "user": _USER, "http_request": _REQUEST},
    4001: {
        **_TRAFFIC,
        "app_name": str,
        "connection_info": {
            "uid": str,
            "protocol_name": str,
            "direction_id": int,
            "direction": str,
        },
    },
    4002: {**_TRAFFIC, "http_request": _REQUEST, "http_response": {"code": int}},
    6002: {"app": _PRODUCT},
    6003: {
        "actor": _ACTOR,
        "api": _API,
        "src_endpoint": _ENDPOINT,
        "http_request": _REQUEST,
        "resources": [{"uid": str, "type": str}],
    },
}
"""Columns of each class beside the shared ones, by the class' number."""

EVERY: Columns = {
    **SHARED,
    **{name: column for columns in OF_CLASS.values() for name, column in columns.items()},
}
"""Columns of all classes together, for objects that hold several."""
