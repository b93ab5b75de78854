"""`headrace faust`: Faust's own command line on this application."""

from __future__ import annotations

import click


@click.command(
    short_help="Faust's own command line on this application.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def faust(arguments: tuple[str, ...]) -> None:
    """Run Faust's own command line on this application; `-- --help` shows what it has.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace faust agents
      KAFKA_BROKERS=127.0.0.1:9092 headrace faust worker --without-web -l warn
    """
    from faust.cli.faust import cli

    from commands.groups import of_group
    from config.settings import load_settings
    from streams.app import create_worker

    app = create_worker(*of_group(load_settings(), "main")).app
    app.finalize()
    app.worker_init()
    cli.main(args=list(arguments), prog_name="headrace faust", obj=None, app=app)
