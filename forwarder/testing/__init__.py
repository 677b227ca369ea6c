"""Fakes and contract suites for authors of sources, sinks and formats.

``sink_contract``, ``source_contract`` and ``format_contract`` are the suites. ``fake_server`` has
an HTTP server that can fail in every way that real ones do, ``network`` a TCP proxy with faults,
``clock`` a clock whose hours pass in milliseconds, ``batches`` what a sink is given, ``samples`` a
row of each kind that Cloudflare sends.
"""
