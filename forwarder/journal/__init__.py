"""The only place that knows SQLite: rows, positions, offsets, dead letters and gaps."""
