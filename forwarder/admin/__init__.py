"""What an operator asks a running daemon: health, metrics, status and the control socket.

Nothing is imported here: a command that only asks needs no web server.
"""
