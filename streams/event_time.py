"""Event times on the wire: whole milliseconds since 1970 UTC, or RFC 3339 text."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

MAX_EVENT_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, UTC: the last that RFC 3339 can write."""

# Not `int | datetime`: msgspec rounds digits beyond the microsecond, which can move an event into
# the next millisecond, and it takes an offset without its colon, which RFC 3339 does not.
if TYPE_CHECKING:
    EventTime: TypeAlias = int
else:
    EventTime = Annotated[int, msgspec.Meta(ge=0, le=MAX_EVENT_TIME_MS)] | str
"""The type of an event's `timestamp`: msgspec reads both forms, the codec leaves only ints (ms)."""

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse_event_time_ms(text: str) -> int | None:
    """Return the ms since 1970 UTC that RFC 3339 text names, digits beyond the ms cut off.

    None for all else: no offset, a leap second, a day that does not exist, before 1970, after 9999.
    """
    if _RFC_3339.fullmatch(text) is None:
        return None
    try:
        time_ms = (datetime.fromisoformat(text.upper()) - _EPOCH) // _MILLISECOND
    except ValueError:
        return None
    return time_ms if 0 <= time_ms <= MAX_EVENT_TIME_MS else None
