"""What the live view is written with: safe text, numbers in few letters, small curves, colours."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

# Okabe and Ito's colours, told apart by the colour-blind too. No meaning has a colour alone.
ORANGE = "#e69f00"
SKY_BLUE = "#56b4e9"
GREEN = "#009e73"
VERMILLION = "#d55e00"
PURPLE = "#cc79a7"
FAINT = "dim"

_BARS = "▁▂▃▄▅▆▇█"
_LARGEST_IN_FULL = 9_999.5
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def safe(text: str) -> str:
    """Return text without what would steer the terminal: a key may hold anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def short(number: float | None) -> str:
    """Return a number of at least 0 in at most five characters; `-` for none."""
    if number is None:
        return "-"
    if number < _LARGEST_IN_FULL:
        return f"{number:,.0f}"
    # 999,600 has 1.0M and not 1000k.
    size, unit = next((size, unit) for size, unit in _UNITS if number >= 0.9995 * size)
    scaled = number / size
    return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"  # noqa: PLR2004


def curve(history: Sequence[float], width: int) -> str:
    """Return the last numbers as bars, one a character, the highest of them as high as can be."""
    shown = history[-width:] if width > 0 else ()
    top = max(shown, default=0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[round(max(0.0, n) / top * (len(_BARS) - 1))] for n in shown)


def fit(text: Text, width: int) -> Text:
    """Return text in exactly so many cells of the terminal, cut with an ellipsis or filled up."""
    fitted = text.copy()
    if cell_len(fitted.plain) > width:
        fitted.truncate(max(0, width), overflow="ellipsis")
    fitted.append(" " * (width - cell_len(fitted.plain)))
    return fitted


def right(text: str, width: int) -> str:
    """Return text at the right end of so many cells."""
    cut = set_cell_size(text, min(width, cell_len(text)))
    return " " * (width - cell_len(cut)) + cut


def rule(title: str, width: int, end: str = "") -> Text:
    """Return a line across, with its title on the left and words at the right end."""
    head, tail = f"── {title} ", f" {end}" if end else ""
    line = "─" * (width - cell_len(head) - cell_len(tail))
    return fit(Text.assemble((head, "bold"), (line, FAINT), (tail, FAINT)), width)


def beside(left: Sequence[Text], right_: Sequence[Text], left_width: int, width: int) -> list[Text]:
    """Return two columns as lines; the shorter one is filled up."""
    right_width = max(0, width - left_width - 2)
    rows = max(len(left), len(right_))
    lefts, rights = ([*column, *[Text()] * (rows - len(column))] for column in (left, right_))
    return [
        Text.assemble(fit(a, left_width), "  ", fit(b, right_width))
        for a, b in zip(lefts, rights, strict=True)
    ]


def among(rows: Sequence[Text], height: int) -> list[Text]:
    """Return at most so many rows; where some are left out the last one says how many."""
    if len(rows) <= height:
        return list(rows)
    shown = list(rows[: max(0, height - 1)])
    return [*shown, Text(f"... and {len(rows) - len(shown)} more", style=FAINT)][:height]
