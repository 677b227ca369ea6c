"""The poller: one stream's rounds, from the source into the journal."""
