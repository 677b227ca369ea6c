"""What an operator asks a running daemon: health, metrics, status and the control socket."""
