"""The commands: the only code that prints or exits."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the console script's entry point."""
    from forwarder.cli.program import run_program  # noqa: PLC0415 - importing forwarder is free

    run_program()
