"""Fakes and contract suites for authors of sources, sinks and formats."""
