"""What users did in a session, told once it is over (docs/contract.md)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from streams.events import Envelope, SessionData, UserSessionClosed, amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from tables.timed import SESSIONS

Row: TypeAlias = Open[Any]


def take_events(events: Iterable[Envelope], rows: TimedRows[Row]) -> None:
    """Add what users did to their sessions."""
    SESSIONS.add(events, rows)


def close(key: str, row: Row, now_ms: int) -> Fired[Row, UserSessionClosed]:
    """Return the sessions of a user that are open still, and an event for each that is over."""
    left, closed = SESSIONS.fire(key, row, now_ms)
    return left, list(map(_closed, closed))


def _closed(session: Windowed[Any]) -> UserSessionClosed:
    user_id, started_at, ended_at, did = session
    data = SessionData(
        user_id=user_id,
        started_at=started_at,
        ended_at=ended_at,
        duration_ms=ended_at - started_at,
        events=did["events"],
        orders=did["orders"],
        amount=amount_of(did["cents"]),
    )
    return UserSessionClosed.told_by(
        "user_sessions", started_at, ended_at, last_ms=ended_at, data=data
    )
