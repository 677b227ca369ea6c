"""The journal on SQLite: rows, positions, offsets, dead letters, gaps, retention.

``journal.SqliteJournal`` implements the contract in ``core.journal``.
"""
