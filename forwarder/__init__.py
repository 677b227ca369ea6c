"""Tail Cloudflare Access' logs and deliver every event to any number of SIEMs."""

__version__ = "1.0.0"
