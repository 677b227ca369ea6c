"""Cloudflare Access' two logs; the plugin that ``forwarder.sources`` names."""

from forwarder.sources.cloudflare_access.plugin import CloudflareAccess

__all__ = ["CloudflareAccess"]
