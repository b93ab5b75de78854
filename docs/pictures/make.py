# ruff: noqa: INP001 - a script, in no package
"""Makes the pictures beside it of demos that run: `.venv/bin/python docs/pictures/make.py [GROUP ...]`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from config.settings import load_settings
from demo.ending import EndSignals
from demo.keys import Command, Do
from demo.run import Plan, run_demo
from demo.snapshot import Snapshot, WorkerState
from demo.view import View

_FOLDER = Path(__file__).parent
_WIDTH, _HEIGHT = 104, 30
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_POISON_AT_S, _PICTURE_AT_S = 8, 20
_WINDOWS_PICTURE_AT_S = 45  # sessions and unpaid orders take 21 s to close
_SALES_PICTURE_AT_S = 40  # three days have ended
_LAG_TO_SEE_S = 2.5


Hit: TypeAlias = Callable[[Do], object]
Story: TypeAlias = Generator[None, Snapshot, None]


class Camera:
    """A screen without a terminal: somebody who hits keys, and takes pictures, as a story has it."""

    def __init__(self, story: Callable[[Hit], Story]) -> None:
        self._story = story

    @contextlib.contextmanager
    def shown(self, obey: Callable[[Command], None]) -> Iterator[Callable[[Snapshot], None]]:
        """Give what looks at each snapshot."""
        loop = asyncio.get_running_loop()
        story = self._story(lambda do: loop.call_soon(obey, Command(do)))
        next(story)
        yield story.send


def _main_story(hit: Hit) -> Story:
    now = yield
    while now.seconds < _POISON_AT_S:
        now = yield
    hit(Do.POISON)
    while now.seconds < _PICTURE_AT_S:
        now = yield
    _take(now, "demo.svg")
    hit(Do.KILL)
    while now.lag_s < _LAG_TO_SEE_S:
        now = yield
    _take(now, "demo-killed.svg")
    hit(Do.START)
    while any(row.state is not WorkerState.UP for row in now.workers):
        now = yield
    hit(Do.END)
    while True:
        yield


def _story(at_s: float, name: str) -> Callable[[Hit], Story]:
    """Return the story of one picture."""

    def story(hit: Hit) -> Story:
        now = yield
        while now.seconds < at_s:
            now = yield
        _take(now, name)
        hit(Do.END)
        while True:
            yield

    return story


_STORIES: dict[str, Callable[[Hit], Story]] = {
    "main": _main_story,
    "windows": _story(_WINDOWS_PICTURE_AT_S, "demo-windows.svg"),
    "sales": _story(_SALES_PICTURE_AT_S, "demo-sales.svg"),
}


def _take(now: Snapshot, name: str) -> None:
    """Write the view of a snapshot as SVG, with the fonts of whoever looks at it."""
    console = Console(
        width=_WIDTH,
        height=_HEIGHT,
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
    )
    console.print(View(now), end="")
    svg = console.export_svg(title="headrace demo", unique_id=name.removesuffix(".svg"))
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]+;", f"font-family: {_FONTS};", svg)
    lines = (line.rstrip() for line in svg.splitlines())
    (_FOLDER / name).write_text("\n".join(line for line in lines if line) + "\n", encoding="utf-8")


if __name__ == "__main__":
    ends = EndSignals()
    ends.install()
    settings = load_settings()
    for group in sys.argv[1:] or _STORIES:
        if run_demo(Plan(seed=4, group=group), settings, ends, Camera(_STORIES[group])):
            sys.exit(1)
