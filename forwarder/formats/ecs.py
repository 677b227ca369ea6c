"""The format ``ecs``: Elastic Common Schema.

A login is an ``authentication`` event, a SCIM change an ``iam`` event, a change of the account an
``iam`` or a ``configuration`` event, the forwarder's own events are ``process``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from forwarder.core.identity import dumps
from forwarder.core.schema import (
    FAILURE,
    AdminActivity,
    Event,
    Login,
    Member,
    OwnEvent,
    Provisioning,
    Traffic,
)
from forwarder.formats.json_events import (
    USER_TYPES,
    JsonEvents,
    Mappings,
    Object,
    filled,
    iso_text,
    members_of,
)
from forwarder.transport.settings import PluginSettings

ECS_VERSION = "9.4.0"
# ECS allows each category its own types; info is what fits nothing else in all three.
_LOGIN_TYPES = {"login": "start", "logout": "end"}
_OWN_TYPES = {"start": "start", "stop": "end"}
_MODULE = "cloudflare_access"
_DATASETS = {"access_requests": "audit", "scim_updates": "scim"}
"""The name of each stream within the name of its data stream; other streams have their own."""
_TYPES = {"create": "creation", "delete": "deletion"}
_ACTIVITY_TYPES = {**_TYPES, "update": "change", **_LOGIN_TYPES}
_IAM = frozenset({"user", "member", "service_token", "api_token"})
"""What an administrator changes that is about who may enter."""


class EcsConfig(PluginSettings):
    """What a sink with ``format: ecs`` takes."""

    data_stream_namespace: str = Field(
        "default",
        # Elasticsearch takes no capitals in a stream's name, and the hyphen separates its parts.
        pattern=r"^[^A-Z\-\\/*?\"<>| ,#:]{1,100}$",
        description="last part of the data stream's name, as in logs-cloudflare_access.audit-NAME",
    )
    event_original: bool = Field(
        default=False, description="also send the row as received, as the text event.original"
    )


def describe(event: Event, **more: Any) -> Object:
    """Return what all events share; ``more`` goes into ``event``."""
    origin = event.origin
    dataset = f"{_MODULE}.{_DATASETS.get(origin.stream, origin.stream)}"
    return {
        "@timestamp": iso_text(event.time_us),
        "ecs": {"version": ECS_VERSION},
        # Elastic requires the data set of the stream and of the event to be the same.
        "data_stream": {"type": "logs", "dataset": dataset},
        "event": filled(
            {
                "kind": "event",
                "module": _MODULE,
                "dataset": dataset,
                "id": event.id,
                # Not event.ingested: that is when Elastic stores the event, which it sets itself.
                "created": iso_text(origin.seen_us),
                "outcome": event.outcome,
                **more,
            }
        ),
        "observer": {"vendor": "Cloudflare", "product": "Access"},
        "cloud": {
            "provider": "cloudflare",
            "account": filled({"id": origin.account_id, "name": origin.account}),
        },
        "tags": [f"quality_{name}" for name in event.quality],
    }


def map_login(login: Login) -> Object:
    """Return the ECS event of ``login``."""
    email = login.user_email
    source = filled({"ip": login.ip_address, "geo": filled({"country_iso_code": login.country})})
    event = describe(
        login,
        category=["authentication"],
        type=[_LOGIN_TYPES.get(login.action, "info")],
        action=login.action,
    )
    if login.network:
        event["tags"].append(login.network)
    return filled(
        {
            **event,
            "message": login.message,
            "user": filled({"id": login.user_id, "name": email, "email": login.email}),
            "source": source,
            "client": source,  # Elastic's own integrations of Cloudflare have it there
            "url": filled(
                {
                    "full": login.url,
                    "scheme": "https" if login.url else "",
                    "domain": login.host,
                    "port": login.port,
                    "path": login.path,
                    "query": login.query,
                }
            ),
            "service": filled({"id": login.app_uid, "name": login.app_name}),
            "http": {"request": {"id": login.ray_id}} if login.ray_id else {},
            "related": filled(
                {
                    "ip": list(filter(None, [login.ip_address])),
                    "user": list(filter(None, [email, login.user_id])),
                    "hosts": list(filter(None, [login.host])),
                }
            ),
            "cloudflare": filled({"access": _access(login), "unmapped": login.extra}),
        }
    )


def _access(login: Login) -> Object:
    return filled(
        {
            "allowed": login.allowed,
            "app": filled({"type": login.app_type}),
            "connection": login.connection,
            "user_type": USER_TYPES.get(login.user_kind, ""),
            "count": login.login_count,
            "sample_interval": login.sample_interval,
        }
    )


def map_activity(activity: AdminActivity) -> Object:
    """Return the ECS event of ``activity``; ``user`` is whoever did it."""
    iam = activity.object in _IAM
    category = "authentication" if activity.is_login else "iam" if iam else "configuration"
    source = filled({"ip": activity.ip_address})
    return filled(
        {
            **describe(
                activity,
                category=[category],
                type=[_ACTIVITY_TYPES.get(activity.activity, "info")],
                action=activity.description or activity.operation or activity.activity,
            ),
            "message": activity.message,
            "user": filled(
                {
                    "id": activity.actor_id,
                    "name": activity.user,
                    "email": activity.actor_email,
                }
            ),
            "source": source,
            "client": source,
            "http": filled(
                {
                    "request": filled({"method": activity.method, "id": activity.ray_id}),
                    "response": filled({"status_code": activity.status_code}),
                }
            ),
            "url": filled({"path": activity.path}),
            "user_agent": filled({"original": activity.user_agent}),
            "related": filled(
                {
                    "ip": list(filter(None, [activity.ip_address])),
                    "user": list(
                        dict.fromkeys(
                            filter(None, [activity.actor_email, activity.actor_id, activity.user])
                        )
                    ),
                }
            ),
            "cloudflare": filled({"audit": _audit(activity), "unmapped": activity.extra}),
        }
    )


def _audit(activity: AdminActivity) -> Object:
    return filled(
        {
            "id": activity.row_id,
            "activity": activity.activity,
            "operation": activity.operation,
            "result": activity.result,
            "actor": filled({"type": activity.actor_type, "context": activity.actor_context}),
            "token": filled({"id": activity.token_id, "name": activity.token_name}),
            "resource": filled(
                {
                    "id": activity.resource_id,
                    "object": activity.object,
                    "product": activity.product,
                    "type": activity.resource_type,
                    "scope": activity.scope,
                    # Texts: as objects, every change of a setting would be new fields.
                    "request": activity.request_body,
                    "response": activity.response_body,
                }
            ),
            "zone": filled({"id": activity.zone_id, "name": activity.zone_name}),
        }
    )


def map_traffic(traffic: Traffic) -> Object:
    """Return the ECS event of a request (``web``) or of a session (``network``)."""
    request, duration, host = bool(traffic.method), traffic.duration_ms, traffic.host
    failed = ["error"] if request and traffic.outcome == FAILURE else []
    country = filled({"country_iso_code": traffic.country})
    source = filled({"ip": traffic.ip_address, "port": traffic.port, "geo": country})
    user = {"id": traffic.user_id, "name": traffic.user_name, "email": traffic.email}
    end = {"domain": host, "ip": traffic.dst_ip, "port": traffic.dst_port}
    protocol = "http" if request else traffic.protocol.lower()
    url = {"full": traffic.url, "scheme": traffic.scheme, "domain": host if request else ""}
    own = {"session_id": "" if request else traffic.uid, "device_name": traffic.device_name}
    return filled(
        {
            **describe(
                traffic,
                category=["web" if request else "network"],
                type=["access", *failed] if request else ["connection", "end"],
                action=traffic.action,
                reason=traffic.reason,
                duration=None if duration is None else duration * 1_000_000,
            ),
            "message": traffic.message,
            "user": filled(user),
            "source": filled({**source, "bytes": traffic.sent}),
            "client": source,
            "destination": filled({**end, "bytes": traffic.received}),
            "network": filled({"transport": traffic.transport, "protocol": protocol}),
            "http": _exchange(traffic) if request else {},
            "url": filled({**url, "path": traffic.path, "query": traffic.query}),
            "user_agent": filled({"original": traffic.user_agent}),
            "device": filled({"id": traffic.device_id}),
            "related": filled(
                {
                    "ip": list(filter(None, [traffic.ip_address, traffic.dst_ip])),
                    "user": list(filter(None, [traffic.user_name, traffic.user_id])),
                    "hosts": list(filter(None, [host])),
                }
            ),
            "cloudflare": filled({**own, "unmapped": traffic.extra}),
        }
    )


def _exchange(traffic: Traffic) -> Object:
    request = {"id": traffic.uid, "method": traffic.method, "referrer": traffic.referrer}
    response = {"status_code": traffic.status_code, "bytes": traffic.received}
    return filled(
        {
            "version": traffic.protocol.partition("/")[2],
            "request": filled({**request, "bytes": traffic.sent}),
            "response": filled(response),
        }
    )


def map_own(event: OwnEvent) -> Object:
    """Return the ECS event of something the forwarder says about itself."""
    particular = {
        "stream": event.about_stream,
        "sink": event.about_sink,
        "from": event.since,
        "to": event.until,
        "rows": event.rows,
    }
    return filled(
        {
            **describe(
                event,
                category=["process"],
                type=[_OWN_TYPES.get(event.action, "info")],
                action=event.action,
                reason=event.reason,
            ),
            "message": event.message,
            "agent": filled({"name": "forwarder", "type": "forwarder", "version": event.version}),
            "cloudflare": filled({"forwarder": filled(particular), "unmapped": event.extra}),
        }
    )


def map_provisioning(change: Provisioning) -> Object:
    """Return the ECS event of ``change``.

    Whom it is about is in ``user.target`` alone: the actor is an identity provider, no user.
    """
    error = change.error_description
    return filled(
        {
            **describe(
                change,
                category=["iam"],
                type=_types(change),
                action=f"scim-{change.resource or 'unknown'}-{change.action or 'unknown'}",
                reason=error,
            ),
            "message": change.message,
            "user": filled({"target": _target(change)}),
            "group": _group(change),
            "http": filled({"request": _request(change)}),
            "error": filled({"message": error}),
            "related": filled({"user": _related(change)}),
            "cloudflare": filled({"scim": _scim(change), "unmapped": change.extra}),
        }
    )


def _types(change: Provisioning) -> list[str]:
    kind = _TYPES.get(change.activity, "change") if change.activity else "info"
    # An iam event has several types at once: whom it is about, and what was done.
    whom = [change.resource] if change.resource else []
    if change.activity in {"add_member", "remove_member"}:
        whom = ["user", "group"]
    return [*whom, kind]


def _target(change: Provisioning) -> Object:
    """Return the user that was changed, or who came to a group or left it."""
    if change.resource != "group":
        identity = change.cf_resource_id if change.resource == "user" else ""
        return filled({"id": identity, "name": change.user_name, "email": change.email})
    if not (change.members_added or change.members_removed):
        return {}
    # user.target is one user: if several moved, related.user has their names.
    member = change.only_member or Member("")
    return filled(
        {
            "id": member.value,
            "name": member.display,
            "email": change.member_email,
            "group": _group(change),
        }
    )


def _group(change: Provisioning) -> Object:
    identity = change.cf_resource_id if change.resource == "group" else ""
    return filled({"id": identity, "name": change.group_name})


def _request(change: Provisioning) -> Object:
    body = {"content": change.request_body, "bytes": change.body_bytes}
    body = body if change.request_body else {}
    return filled({"method": change.method, "body": body})


def _related(change: Provisioning) -> list[str]:
    """Return each name and id of a user once, in order."""
    found = [change.user_email, change.user_name, change.email]
    if change.resource == "user":
        found.append(change.cf_resource_id)
    found += [text for member in change.members for text in (member.value, member.display)]
    return list(dict.fromkeys(filter(None, found)))


def _scim(change: Provisioning) -> Object:
    known = change.resource in {"user", "group"}
    return filled(
        {
            "idp_id": change.idp_id,
            "idp_resource_id": change.idp_resource_id,
            "resource_type": change.resource_type,
            "resource_id": "" if known else change.cf_resource_id,
            "resource_user_email": change.user_email if change.resource == "group" else "",
            "status": change.status,
            "changed": list(change.changed),
            **members_of(change),
        }
    )


class EcsFormat(JsonEvents):
    """Events of ECS 9, with our own fields below ``cloudflare``."""

    Config: ClassVar[type[EcsConfig]] = EcsConfig
    summary: ClassVar[str] = "Elastic Common Schema 9, for data streams"
    kinds: ClassVar[Mappings] = {
        Login: map_login,
        Provisioning: map_provisioning,
        AdminActivity: map_activity,
        Traffic: map_traffic,
        OwnEvent: map_own,
    }

    def __init__(self, config: EcsConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        # A template passes on texts and times; event.original is the whole row.
        super().__init__(config, added, templates=not config.event_original)

    def map(self, event: Event) -> Object:
        """Return ``event`` as an object of ECS."""
        target = super().map(event)
        target["data_stream"]["namespace"] = self._config.data_stream_namespace
        if self._config.event_original:
            target["event"]["original"] = dumps(event.row).decode()
        return target
