"""What must come of a list of records: docs/contract.md written down a second time, plainly.

It shares no code with the application, and uses the standard library alone: where the two differ,
one of them is wrong. `records` judges single records, `flows` says what comes of them, `outcome`
tells two outcomes apart; `windows` and `windows_outcome` do the same for the group `windows`, `sales`,
`products` and `estimates` for the group `sales`, and `deduplicated` for the group `deduplication`.
"""

from demo.oracle.deduplicated import Deduplicated, diff_deduplicated, expect_deduplicated
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
from demo.oracle.records import ORDERS, PAYMENTS, PRODUCTS, USERS, Json, Source, judge, parse
from demo.oracle.sales import SALES_DERIVED, SALES_TABLES, diff_sales, expect_sales
from demo.oracle.windows import expect_windows
from demo.oracle.windows_outcome import (
    WINDOWS_DERIVED,
    WINDOWS_FLOWS,
    Late,
    WindowsOutcome,
    diff_windows,
)

__all__ = [
    "DERIVED",
    "ORDERS",
    "PAYMENTS",
    "PRODUCTS",
    "SALES_DERIVED",
    "SALES_TABLES",
    "TABLES",
    "USERS",
    "WINDOWS_DERIVED",
    "WINDOWS_FLOWS",
    "DeadLetter",
    "Deduplicated",
    "Derived",
    "Json",
    "Late",
    "Outcome",
    "Rules",
    "Source",
    "WindowsOutcome",
    "diff",
    "diff_deduplicated",
    "diff_rows",
    "diff_sales",
    "diff_windows",
    "expect",
    "expect_deduplicated",
    "expect_sales",
    "expect_windows",
    "in_any_turns",
    "judge",
    "parse",
]
