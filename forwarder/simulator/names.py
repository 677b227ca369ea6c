"""The endpoints by name, as faults, permissions, counters and control requests spell them."""

from __future__ import annotations

ACCESS_REQUESTS = "access_requests"
SCIM_UPDATES = "scim_updates"
IDENTITY_PROVIDERS = "identity_providers"
VERIFY = "verify"

STREAMS = (ACCESS_REQUESTS, SCIM_UPDATES)
ENDPOINTS = (*STREAMS, IDENTITY_PROVIDERS, VERIFY)

TIME_KEY = {ACCESS_REQUESTS: "created_at", SCIM_UPDATES: "logged_at"}
DISTINCT_KEY = {ACCESS_REQUESTS: "ray_id", SCIM_UPDATES: "cf_resource_id"}
