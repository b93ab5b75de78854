"""Which group of flows a command is about: `--group`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from config.settings import Settings
    from streams.engine.definitions import Topology

F = TypeVar("F", bound=Callable[..., Any])


def group_option(command: F) -> F:
    """Give a command the option `--group`, by default the main one."""
    return click.option(
        "--group",
        metavar="NAME",
        default="main",
        show_default=True,
        help="The group of flows, as streams/topology.py names it.",
    )(command)


def of_group(settings: Settings, name: str) -> tuple[Settings, Topology]:
    """Return a group's flows, and the settings as they are for it: with an application id of its own.

    The flows read the topic of orders that the settings name.
    Raises click.BadParameter, which lists the groups that there are.
    """
    from streams.topology import GROUPS, MAIN

    if name not in GROUPS:
        raise click.BadParameter(
            f"there is no group {name!r}, but: {', '.join(GROUPS)}", param_hint="'--group'"
        )
    if name != MAIN:
        settings = settings.model_copy(update={"app_id": f"{settings.app_id}-{name}"})
    return settings, GROUPS[name].reading(settings.orders_topic).of(settings.app_id)


def of_table(settings: Settings, table: str) -> tuple[Settings, Topology]:
    """Return the group that keeps a table, as of_group does; of a table that nobody keeps the main one."""
    groups = every_group(settings)
    keeping = (group for group in groups if table in {each.name for each in group[1].tables})
    return next(keeping, groups[0])


def every_group(settings: Settings) -> list[tuple[Settings, Topology]]:
    """Return what of_group returns for each group, the main one first."""
    from streams.topology import GROUPS

    return [of_group(settings, name) for name in GROUPS]
