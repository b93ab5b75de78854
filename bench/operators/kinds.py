"""The operators that are measured: what each does, and of which input."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from bench.work import ORDERS

WindowOperator: TypeAlias = Literal["tumbling", "hopping", "sliding", "session", "repartition"]
JoinOperator: TypeAlias = Literal["inner", "outer"]
TableOperator: TypeAlias = Literal["stream-table", "table-table", "foreign-key", "versioned"]
Operator: TypeAlias = WindowOperator | JoinOperator | TableOperator
PAYMENTS: Final = "payments"
USERS: Final = "users"
RESULTS: Final = "results"
"""The topic that results go to: each once, when its window has closed, or when two records match.

Those of a table's operators are its changes: there the last one of a key counts.
"""

_MINUTE_MS: Final = 60_000
_GRACE_MS: Final = 5_000


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """An operator with its times, ms, over orders of so many users."""

    name: str
    """As tables show it."""
    operator: Operator
    size_ms: int = 0
    """Of windows; the gap of sessions; how much later than its order a payment may come; a history."""
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
        return self.operator in get_args(JoinOperator)

    @property
    def has_users(self) -> bool:
        """Whether it reads what becomes of users as well."""
        return self.operator in get_args(TableOperator)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics that it reads."""
        return ORDERS, *([PAYMENTS] * self.is_join), *([USERS] * self.has_users)

    @property
    def has_tables(self) -> bool:
        """Whether tables, or topics in between, come in."""
        return self.has_users or self.is_rekeyed

    @property
    def is_by_order(self) -> bool:
        """Whether its orders come by their ids, not by user."""
        return self.is_join or self.operator == "foreign-key"

    @property
    def is_rekeyed(self) -> bool:
        """Whether records meet by another key than that of the input, through topics in between."""
        return self.operator in {"repartition", "foreign-key"}

    @property
    def tells_changes(self) -> bool:
        """Whether its results are a table's changes: how many of a key there are hangs on commits."""
        return self.operator in {"repartition", "table-table", "foreign-key"}

    @property
    def waits(self) -> bool:
        """Whether results wait for event time to pass."""
        return not (self.tells_changes or self.operator == "stream-table")


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
    Kind(name="stream-table join", operator="stream-table"),
    # Orders of one product come from all tasks, which may be apart in event time by all of the input:
    # only a grace beyond that makes nothing late. Then no window closes, so changes are told.
    Kind(
        name="repartition + tumbling 1 min",
        operator="repartition",
        size_ms=_MINUTE_MS,
        advance_ms=_MINUTE_MS,
        grace_ms=1_440 * _MINUTE_MS,
        share=0.5,
    ),
    Kind(name="table-table join", operator="table-table"),
    Kind(name="foreign-key join", operator="foreign-key", share=0.5),
    Kind(name="versioned join", operator="versioned", size_ms=_MINUTE_MS, share=0.5),
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
