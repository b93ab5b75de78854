"""What must come of a list of records: docs/contract.md written down a second time, plainly.

It shares no code with the application, and uses the standard library alone: where the two differ,
one of them is wrong. `records` judges single records, `flows` says what comes of them, `outcome`
tells two outcomes apart.
"""

from demo.oracle.flows import Rules, expect
from demo.oracle.outcome import (
    DERIVED,
    TABLES,
    DeadLetter,
    Derived,
    Outcome,
    diff,
    diff_rows,
    in_any_turns,
)
from demo.oracle.records import ORDERS, USERS, Json, Source, judge, parse

__all__ = [
    "DERIVED",
    "ORDERS",
    "TABLES",
    "USERS",
    "DeadLetter",
    "Derived",
    "Json",
    "Outcome",
    "Rules",
    "Source",
    "diff",
    "diff_rows",
    "expect",
    "in_any_turns",
    "judge",
    "parse",
]
