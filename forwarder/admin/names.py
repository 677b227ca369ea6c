"""Names that the daemon and its commands agree on."""

SOCKET_NAME = "control.sock"
"""The control socket's name inside the state folder."""
