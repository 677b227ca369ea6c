"""The consumer: one sink's loop, from the journal to the destination."""
