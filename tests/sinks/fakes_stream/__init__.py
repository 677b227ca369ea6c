"""Receivers on 127.0.0.1 for the sinks that speak over a connection."""
