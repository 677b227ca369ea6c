"""Carries events from the journal to one sink: batching, retrying, acknowledging, giving up."""
