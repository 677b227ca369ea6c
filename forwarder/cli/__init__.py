"""The commands: the only room that prints or exits."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Entry point of the console script."""
    from forwarder.cli.program import run_program  # noqa: PLC0415 - importing forwarder is free

    run_program()
