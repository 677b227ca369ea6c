"""``forwarder completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_FORWARDER_COMPLETE"
_INSTALL = {
    "bash": 'eval "$(forwarder completion bash)"   in ~/.bashrc (needs bash 4.4 or newer)',
    "zsh": 'eval "$(forwarder completion zsh)"   in ~/.zshrc, after compinit',
    "fish": "forwarder completion fish | source   in ~/.config/fish/config.fish",
}


@click.command(
    epilog="\b\nTo have it in every shell, put this line:\n"
    + "\n".join(f"  {line}" for line in _INSTALL.values())
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click knows the three names above  # nosec B101
    click.echo(script(context.find_root().command, {}, "forwarder", _VARIABLE).source())
