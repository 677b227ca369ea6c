"""``forwarder simulate``."""

from __future__ import annotations

import asyncio
import contextlib

import click

from forwarder.cli.options import PORT, RATE, DurationType


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=PORT, default=8787, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--rate", type=RATE, default=2.0, show_default=True, help="Logins a second and account."
)
@click.option(
    "--scim-rate", type=RATE, default=0.1, show_default=True, help="SCIM updates a second."
)
@click.option(
    "--history",
    type=DurationType(),
    default="1h",
    show_default=True,
    help="Rows reach back so.",
)
@click.option("--seed", default=1, show_default=True, help="Same seed, same traffic.")
@click.option("--account", "accounts", multiple=True, help="Account ids; repeatable.")
@click.option("--token", "tokens", multiple=True, help="API tokens that are admitted; repeatable.")
@click.option("--unlimited", is_flag=True, help="Without Cloudflare's request quota.")
def command(  # noqa: PLR0913 - one argument an option
    *,
    host: str,
    port: int,
    rate: float,
    scim_rate: float,
    history: float,
    seed: int,
    accounts: tuple[str, ...],
    tokens: tuple[str, ...],
    unlimited: bool,
) -> None:
    """Serve a simulated Cloudflare API, and print its base URL on stdout.

    It invents companies, people, applications and their logins out of the seed. Below
    /_simulator/ it can be told to misbehave and asked what it has shown.
    """
    from forwarder import simulator  # noqa: PLC0415 - imports aiohttp

    defaults = simulator.SimulatorSettings()
    settings = simulator.SimulatorSettings(
        accounts=accounts or defaults.accounts,
        tokens=tuple(simulator.Token(token) for token in tokens) or defaults.tokens,
        seed=seed,
        rate=rate,
        scim_rate=scim_rate,
        history=history,
        policy=None if unlimited else defaults.policy,
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(simulator.Simulator(settings).serve(host, port, click.echo))
    except OSError as error:
        problem = str(error.strerror).rpartition(": ")[2]  # what asyncio says before is said here
        raise click.ClickException(f"{host}:{port} cannot be listened on: {problem}") from error
