"""A user's events, in the order of the topic, make a row; a deletion removes it everywhere."""

import pytest

from streams.engine.failpoints import Step
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, USERS
from tables.definitions import USERS as USERS_TABLE
from tables.definitions import User
from tests.flows.stories import NOW_MS, counts, user_event

REGISTERED = user_event("registered", 1, username="ada", email="ada@example.org", country="GB")
ADA = User("ada", "ada@example.org", "GB", "active", NOW_MS + 1, None)


def test_a_user_is_kept_as_their_events_tell(driver: Driver) -> None:
    driver.pipe(USERS, [REGISTERED, user_event("logged_in", 7, ip="::1")])
    driver.pipe(USERS, [user_event("updated", 8, changes={"country": "FR"})])
    driver.pipe(USERS, [user_event("status_changed", 9, status="frozen")])
    assert driver.table(USERS_TABLE) == {
        "ada": User("ada", "ada@example.org", "FR", "frozen", NOW_MS + 1, NOW_MS + 7)
    }
    assert driver.changelog(USERS_TABLE) == {
        "ada": b'{"username":"ada","email":"ada@example.org","country":"FR","status":"frozen",'
        b'"registered_at":%d,"last_login_at":%d}' % (NOW_MS + 1, NOW_MS + 7)
    }


def test_events_apply_in_the_order_of_the_topic_whatever_their_times(driver: Driver) -> None:
    driver.pipe(USERS, [user_event("logged_in", 9), user_event("logged_in", 4), REGISTERED])
    assert driver.table(USERS_TABLE) == {
        "ada": User("ada", "ada@example.org", "GB", "active", NOW_MS + 1, NOW_MS + 4)
    }


def test_a_deletion_removes_the_row_from_table_changelog_and_disk(driver: Driver) -> None:
    driver.pipe(USERS, [REGISTERED, user_event("registered", 2, user="bob")])
    driver.pipe(USERS, [user_event("deleted", 3)])
    rest = {"bob": User(status="active", registered_at=NOW_MS + 2)}
    assert driver.table(USERS_TABLE) == rest
    assert driver.changelog(USERS_TABLE).keys() == rest.keys()
    driver.stop_worker()
    assert driver.stored(USERS_TABLE) == rest


def test_a_user_that_comes_and_goes_between_two_commits_leaves_nothing(driver: Driver) -> None:
    driver.pipe(USERS, [REGISTERED, user_event("deleted", 2), user_event("deleted", 3)])
    assert driver.table(USERS_TABLE) == {}
    assert driver.changelog(USERS_TABLE) == {}


def test_after_a_deletion_a_rebuilt_table_knows_nothing_of_before(driver: Driver) -> None:
    driver.pipe(USERS, [REGISTERED])
    driver.pipe(USERS, [user_event("deleted", 2)])
    driver.kill_worker()
    driver.lose_disk()
    driver.start_worker()
    driver.pipe(USERS, [user_event("logged_in", 3)])
    assert driver.table(USERS_TABLE) == {"ada": User(last_login_at=NOW_MS + 3)}


@pytest.mark.parametrize("step", [s for s in Step if s.value.startswith("commit.")])
def test_a_crash_in_a_commit_applies_no_event_twice_or_never(driver: Driver, step: Step) -> None:
    driver.pipe(USERS, [REGISTERED, user_event("registered", 1, user="bob")])
    driver.crash_at(step)
    driver.pipe(
        USERS,
        [
            user_event("deleted", 2),
            user_event("password_changed", 3),
            user_event("deleted", 4, user="bob"),
        ],
    )
    assert driver.struck == [step]
    driver.restart()
    assert driver.table(USERS_TABLE) == {"ada": User()}
    assert driver.changelog(USERS_TABLE).keys() == {"ada"}
    driver.pipe(USERS, [REGISTERED])
    assert driver.table(USERS_TABLE) == {"ada": ADA}


def test_refused_and_unknown_events_are_counted_and_change_nothing(driver: Driver) -> None:
    key, value = user_event("registered", user="bob")
    driver.pipe(USERS, [REGISTERED, (b"ada", value), (key, None), (key, b"no JSON")], partition=1)
    driver.pipe(USERS, [user_event("applauded"), user_event("status_changed")])
    assert driver.table(USERS_TABLE) == {"ada": ADA}
    reasons = [dict(sent.headers)["headrace.reason"] for sent in driver.read(DEAD_LETTERS)]
    assert sorted(reasons) == [b"invalid-field", b"key-mismatch", b"undecodable"]
    of_users = counts(driver)["users"]
    assert (of_users.processed, of_users.dead, of_users.skipped, of_users.late) == (1, 3, 2, 0)


@pytest.mark.parametrize("together", [True, False], ids=["in-one-epoch", "each-committed"])
def test_a_row_that_is_too_large_for_a_moment_is_refused_wherever_epochs_are_cut(
    driver: Driver, *, together: bool
) -> None:
    told = [
        user_event("registered", 1, email="e" * 600_000),
        user_event("updated", 2, changes={"username": "u" * 600_000}),
        user_event("updated", 3, changes={"email": "short"}),
        user_event("logged_in", 4),
    ]
    for event in told:
        driver.pipe(USERS, [event], settle=not together)
    driver.settle()
    [letter] = driver.read(DEAD_LETTERS)
    headers = dict(letter.headers)
    assert (headers["headrace.reason"], headers["headrace.agent"]) == (b"too-large", b"users")
    assert letter.value == told[1][1]
    row = driver.table(USERS_TABLE)["ada"]
    assert (row.username, row.email, row.last_login_at) == (None, "short", NOW_MS + 4)
