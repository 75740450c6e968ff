"""The `lamppost-gateway` program: parses the command line, nothing else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from lamppost_gateway import config as configuration
from lamppost_gateway import config_example, log, status_cli
from lamppost_gateway.errors import ConfigError, GatewayError

app = typer.Typer(
    help="The relay in the cabinet: hears nodes, verifies, keeps, acknowledges, publishes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, secrets among them
)
app.registered_commands += status_cli.app.registered_commands

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="configuration file; `lamppost-gateway example` prints one")]
_DEFAULT = Path("/etc/lamppost/gateway.toml")


@app.command()
def run(
    config: ConfigPath = _DEFAULT,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
) -> None:
    """Run the gateway until SIGTERM. Example: lamppost-gateway run -c gateway.toml"""
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("debug, info, warning or error", param_hint="--log-level")
    log.set_up(log_level)
    settings = _load(config)
    from lamppost_gateway.daemon import DiskStuckError, Gateway  # the daemon's parts are not needed by the other commands

    async def serve() -> None:
        await Gateway(settings).run()

    try:
        asyncio.run(serve())
    except* GatewayError as group:
        for error in group.exceptions:
            typer.echo(f"lamppost-gateway: {error}", err=True)
        if group.subgroup(DiskStuckError) is not None:
            os._exit(1)  # an ordinary exit would wait for the thread that waits for the disk
        raise typer.Exit(1) from None


@app.command()
def check(config: ConfigPath = _DEFAULT) -> None:
    """Check configuration, registry and keys; print every problem. Example: lamppost-gateway check -c gateway.toml"""
    settings = _load(config)
    from lamppost_gateway.daemon import check_files

    problems = check_files(settings)
    for problem in problems:
        typer.echo(f"lamppost-gateway: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    modems = f", {len(settings.air.modem)} modem(s)" if settings.air is not None else ""
    typer.echo(f"{config}: good ({len(settings.links)} link(s){modems})")
    if not settings.gateway.hop_keys.exists():
        typer.echo(f"note: {settings.gateway.hop_keys} is missing: this gateway will only listen and acknowledge nothing")


@app.command()
def airtime(
    config: ConfigPath = _DEFAULT,
    unspent: Annotated[
        bool, typer.Option("--unspent", help="these antennas have sent nothing for the law's window: an hour in Europe")
    ] = False,
) -> None:
    """Begin the modems' airtime accounts, before the gateway runs: without one a modem is silent for the law's window.

    Example: lamppost-gateway airtime --unspent -c gateway.toml
    """
    settings = _load(config)
    if settings.air is None:
        typer.echo("lamppost-gateway: the configuration has no [air]", err=True)
        raise typer.Exit(2)
    if not unspent:
        typer.echo("lamppost-gateway: say --unspent, if it is true; `lamppost-gateway status` shows what is spent", err=True)
        raise typer.Exit(1)
    from lamppost_gateway.airtime_accounts import FILE, forget

    try:
        settings.gateway.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        forget(settings.gateway.state_dir / FILE, settings.air.band, [modem.name for modem in settings.air.modem])
    except OSError as error:
        typer.echo(f"lamppost-gateway: {settings.gateway.state_dir}: {error.strerror}", err=True)
        raise typer.Exit(1) from None


@app.command()
def example() -> None:
    """Print a configuration file with every key, its meaning and its default."""
    typer.echo(config_example.example(), nl=False)


def _load(path: Path) -> configuration.Config:
    try:
        return configuration.load(path)
    except ConfigError as error:
        typer.echo(f"lamppost-gateway: {error}", err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """Entry point of the installed program."""
    app()


if __name__ == "__main__":
    main()
