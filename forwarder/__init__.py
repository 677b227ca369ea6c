"""Tail Cloudflare Access' logs and deliver every event to any number of SIEMs."""

__version__ = "0.1.0"
