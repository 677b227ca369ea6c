"""Reads the streams: rounds, trailing readers, backfills; source on one side, log on the other."""
