"""What a launcher raises when this machine lacks what the server needs."""


class Unavailable(Exception):  # noqa: N818 - it is no error of the code under test
    """The message says what is missing and how to get it."""
