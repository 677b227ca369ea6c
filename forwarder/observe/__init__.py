"""Every metric and log line: events come in, counters and lines come out."""
