"""What is known of a user after each of their events."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.users.rules import UserEvent, keep_users
from streams import topics
from streams.engine.codec import Codec
from tables.definitions import User
from tests.unit.wire import HOUR_MS, NOW_MS, run_of

CODEC = Codec(topics.USERS, max_ahead_ms=HOUR_MS)
PROFILE: dict[str, Any] = {"username": "ada", "email": "ada@example.org", "country": "GB"}


def event(kind: str, at_ms: int = 0, *, user: str = "ada", **data: Any) -> UserEvent:
    """Return a user event as it is read from the topic, `at_ms` after NOW_MS."""
    document = {
        "event_id": "e-1",
        "event_type": f"user.{kind}",
        "aggregate_id": user,
        "timestamp": NOW_MS + at_ms,
        "data": {"user_id": user, **data},
    }
    run = run_of(json.dumps(document).encode(), key=user.encode(), kafka_time_ms=NOW_MS + HOUR_MS)
    decoded: UserEvent
    (decoded,) = CODEC.decode(run).events
    return decoded


def after(*events: UserEvent, before: User | None = None) -> User | None:
    """Return ada's row after the events."""
    users = {} if before is None else {"ada": before}
    keep_users(events, users)
    assert users.keys() <= {"ada"}
    return users.get("ada")


ADA = User("ada", "ada@example.org", "GB", "active", NOW_MS, None)


def test_a_registration_makes_an_active_user() -> None:
    assert after(event("registered", **PROFILE)) == ADA


def test_a_registration_may_tell_nothing_but_the_user() -> None:
    assert after(event("registered", 7)) == User(status="active", registered_at=NOW_MS + 7)


def test_a_second_registration_keeps_what_it_does_not_tell() -> None:
    again = event("registered", 9, email="new@example.org")
    assert after(again, before=ADA) == User(
        "ada", "new@example.org", "GB", "active", NOW_MS + 9, None
    )


def test_an_update_changes_what_it_tells_and_nothing_else() -> None:
    update = event("updated", 5, changes={"country": "FR", "email": None})
    assert after(update, before=ADA) == User("ada", "ada@example.org", "FR", "active", NOW_MS, None)


def test_an_empty_text_is_told_and_null_is_not() -> None:
    update = event("updated", changes={"username": "", "email": "", "country": None})
    assert after(update, before=ADA) == User("", "", "GB", "active", NOW_MS, None)


def test_a_log_in_tells_when() -> None:
    row = after(event("logged_in", 3, ip="::1", device="phone"), before=ADA)
    assert row == User("ada", "ada@example.org", "GB", "active", NOW_MS, NOW_MS + 3)


def test_a_log_in_counts_by_its_place_in_the_topic_and_not_by_its_time() -> None:
    row = after(event("logged_in", 9), event("logged_in", 4))
    assert row == User(last_login_at=NOW_MS + 4)


def test_a_status_is_what_was_told_last() -> None:
    row = after(
        event("registered"), event("status_changed", status="frozen"),
        event("status_changed", status=""),
    )  # fmt: skip
    assert row == User(status="", registered_at=NOW_MS)


def test_a_password_tells_nothing_of_a_known_user() -> None:
    assert after(event("password_changed"), before=ADA) == ADA


@pytest.mark.parametrize(
    ("first", "row"),
    [
        (event("updated", changes={"email": "a@example.org"}), User(email="a@example.org")),
        (event("updated", changes={}), User()),
        (event("logged_in", 2), User(last_login_at=NOW_MS + 2)),
        (event("status_changed", status="frozen"), User(status="frozen")),
        (event("password_changed"), User()),
    ],
    ids=["updated", "updated with nothing", "logged in", "status changed", "password changed"],
)
def test_an_event_of_an_unknown_user_makes_the_row_with_what_it_tells(
    first: UserEvent, row: User
) -> None:
    assert after(first) == row


def test_a_deletion_removes_the_row() -> None:
    assert after(event("deleted"), before=ADA) is None


def test_an_unknown_user_can_be_deleted() -> None:
    assert after(event("deleted"), event("deleted")) is None


def test_after_a_deletion_nothing_of_before_is_known() -> None:
    row = after(event("deleted"), event("updated", changes={"country": "FR"}), before=ADA)
    assert row == User(country="FR")


def test_users_are_kept_apart() -> None:
    users: dict[str, User] = {"eve": ADA}
    keep_users([event("logged_in", user="bob"), event("deleted", user="ada")], users)
    assert users == {"eve": ADA, "bob": User(last_login_at=NOW_MS)}


KINDS = [
    event("registered", **PROFILE),
    event("updated", changes={"country": "FR"}),
    event("logged_in", 5),
    event("status_changed", status="frozen"),
    event("password_changed"),
    event("deleted"),
]


@given(st.lists(st.sampled_from(KINDS), max_size=12), st.integers(0, 12))
def test_events_cut_anywhere_tell_the_same(events: list[UserEvent], at: int) -> None:
    whole: dict[str, User] = {}
    keep_users(events, whole)
    cut: dict[str, User] = {}
    keep_users(events[:at], cut)
    keep_users(events[at:], cut)
    assert cut == whole
