"""The operators that are measured: what each does, and of which input."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

Operator: TypeAlias = Literal["tumbling", "hopping", "sliding", "session", "inner", "outer"]
OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)
RESULTS: Final = "results"
"""The topic that results go to: each once, when its window has closed, or when two records match."""

_MINUTE_MS: Final = 60_000
_GRACE_MS: Final = 5_000


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """An operator with its times, ms, over orders of so many users."""

    name: str
    """As tables show it."""
    operator: Operator
    size_ms: int
    """Of windows; the gap of sessions; how much later than its order a payment may come."""
    advance_ms: int = 0
    """Of hopping windows."""
    grace_ms: int = _GRACE_MS
    users: int = 10_000
    share: float = 1.0
    """Of the plan's events."""
    is_declared: bool = False
    """Whether its flow is one of streams/declared.py, not one written by hand."""
    is_ours_alone: bool = False
    """Whether it is measured to be compared with another kind, not with another system."""

    @property
    def word(self) -> str:
        """What `--only` calls it: the first word of its name."""
        return self.name.partition(" ")[0]

    @property
    def is_join(self) -> bool:
        """Whether it reads payments as well, both by order."""
        return self.operator in {"inner", "outer"}


# Orders come a thousand a second of event time: a user's of 10,000 each 10 s, so that an hour of the
# hopping windows of 5 min holds 30 orders of each, and a session of 30 s without an order some 20.
KINDS: Final = (
    Kind(name="tumbling 1 min", operator="tumbling", size_ms=_MINUTE_MS, advance_ms=_MINUTE_MS),
    Kind(
        name="declared tumbling 1 min",
        operator="tumbling",
        size_ms=_MINUTE_MS,
        advance_ms=_MINUTE_MS,
        is_declared=True,
        is_ours_alone=True,
    ),
    Kind(
        name="hopping 5 min / 1 min",
        operator="hopping",
        size_ms=5 * _MINUTE_MS,
        advance_ms=_MINUTE_MS,
    ),
    Kind(name="sliding 1 min", operator="sliding", size_ms=_MINUTE_MS, share=0.5),
    Kind(name="session 30 s", operator="session", size_ms=30_000),
    Kind(name="inner join", operator="inner", size_ms=_MINUTE_MS),
    Kind(name="outer join", operator="outer", size_ms=_MINUTE_MS),
    # Of 2 M users one in two orders within 1,400 s: a million sessions are open, and half of all orders
    # begin a new one, while as many close. In the other there is nothing to close.
    Kind(
        name="a million open, closing",
        operator="session",
        size_ms=1_400_000,
        users=2_000_000,
        share=2.0,
        is_ours_alone=True,
    ),
    Kind(
        name="a million open, none closing",
        operator="session",
        size_ms=10**10,
        users=1_000_000,
        share=2.0,
        is_ours_alone=True,
    ),
)


def chosen(words: str) -> tuple[Kind, ...]:
    """Return the kinds of these words, with commas between. Raise ValueError for one that is none."""
    wanted = {word.strip() for word in words.split(",")}
    known = list(dict.fromkeys(kind.word for kind in KINDS))
    if unknown := sorted(wanted.difference(known)):
        raise ValueError(f"no such operator: {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(kind for kind in KINDS if kind.word in wanted)
