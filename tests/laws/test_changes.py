"""Topics of changes: of each key the last of a commit is sent, and what is left of them hangs on no cut."""

import json
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, Topic, Topology
from streams.engine.failpoints import Step, disarm
from streams.events import OrderCreated
from streams.testing import Driver
from streams.topics import ORDERS
from tests.laws.test_crashes import Blow, blows
from tests.laws.test_key_by import settle
from tests.laws.world import NOW_MS, Cuts, cuts
from tests.scraped import Scraped
from tests.unit.wire import order


class Counted(msgspec.Struct, frozen=True, tag="user.counted", tag_field="event_type"):
    """How many orders a user has by now."""

    event_id: str
    timestamp: int
    user: str
    orders: int


COUNTS = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
EVE = "eve"
BIG = "big"
TOO_LONG: Any = "x" * 1_100_000
NO_JSON: Any = object()
"""What cannot be encoded."""
CHANGES = Topic("changes", events=(Counted,), key=lambda told: told.user, keeps_last=True)


def count(orders: Iterable[OrderCreated], counts: MutableMapping[str, int]) -> Iterator[Counted]:
    for each in orders:
        user = each.data.user_id
        counts[user] = counts.get(user, 0) + 1
        number = {EVE: NO_JSON, BIG: TOO_LONG}.get(user, counts[user])
        yield Counted(each.event_id, each.timestamp, user, number)


def registered(rule: Any) -> Callable[[App[Any]], None]:
    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def counted(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.of(OrderCreated), COUNTS)

    return register


TOPOLOGY = Topology(
    (Flow(registered(count), "counted", reads=(ORDERS,), keeps=COUNTS, emits=CHANGES),),
    dead_letters="dead-letters",
)


def ordered(number: int, user: str) -> tuple[bytes, bytes]:
    data = {"user_id": user}
    return user.encode(), order(event_id=f"e-{number}", data=data, timestamp=NOW_MS + number)


def told(driver: Driver) -> list[tuple[str, int]]:
    values = [json.loads(sent.value or b"") for sent in driver.sent(CHANGES.name)]
    return [(each["user"], each["orders"]) for each in values]


def test_of_changes_in_one_commit_the_last_of_each_key_is_sent(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with Driver(TOPOLOGY, settings, partitions=1) as driver:
        driver.pipe(ORDERS, [ordered(n, user) for n, user in enumerate(["ada", "bob", "ada"])])
        assert told(driver) == [("ada", 2), ("bob", 1)]
        driver.pipe(ORDERS, [ordered(3, "bob")])
        assert told(driver) == [("ada", 2), ("bob", 1), ("bob", 2)]
        scraped = Scraped(driver.meters()[0].exposition("")[0].decode())
        assert scraped.of("headrace_records_out_total", topic="changes", flow="counted") == 3


@pytest.mark.parametrize(("user", "reason"), [(EVE, "rule-failed"), (BIG, "too-large")])
def test_a_change_that_cannot_be_sent_is_the_dead_letter_of_who_told_it(
    user: str, reason: str, tmp_path: Path
) -> None:
    with Driver(TOPOLOGY, load_settings(data_dir=tmp_path), partitions=1) as driver:
        driver.pipe(ORDERS, [ordered(n, name) for n, name in enumerate(["ada", user, "ada"])])
        assert told(driver) == [("ada", 2)]
        [letter] = driver.sent("dead-letters")
        assert dict(letter.headers)["headrace.reason"] == reason.encode()
        assert driver.table(COUNTS) == {"ada": 2}
        driver.pipe(ORDERS, [ordered(3, "bob"), ordered(4, "bob")])
        assert told(driver) == [("ada", 2), ("bob", 2)]


def test_a_topic_that_a_flow_names_twice_gets_what_it_emits_once(tmp_path: Path) -> None:
    others = Topic("others", events=(Counted,), key=lambda told: told.user)
    flow = Flow(registered(count), "counted", reads=(ORDERS,), keeps=COUNTS, emits=(others, others))
    topology = Topology((flow,), dead_letters="dead-letters")
    with Driver(topology, load_settings(data_dir=tmp_path), partitions=1) as driver:
        driver.pipe(ORDERS, [ordered(0, "ada"), ordered(1, "ada")])
        assert len(driver.sent("others")) == 2


@pytest.mark.parametrize("bad", [NO_JSON, TOO_LONG])
@pytest.mark.parametrize("together", [1, 100])
def test_whether_a_change_can_be_sent_hangs_on_no_cut(
    bad: Any, together: int, tmp_path: Path
) -> None:
    """Also one that another replaces before its commit, and one that comes in the midst of others."""

    def updates(orders: Iterable[OrderCreated], counts: MutableMapping[str, int]) -> list[Counted]:
        """Tell the last of each key, keys as they first came: not in the order of records."""
        last: dict[str, Counted] = {}
        for each in orders:
            user = each.data.user_id
            counts[user] = counts.get(user, 0) + 1
            number = bad if (user, each.event_id) == (EVE, "e-1") else counts[user]
            told_of = Counted(each.event_id, each.timestamp, user, number)
            if user not in last or last[user].orders is not bad:  # what is bad stays
                last[user] = told_of
        return list(last.values())

    flow = Flow(registered(updates), "counted", reads=(ORDERS,), keeps=COUNTS, emits=CHANGES)
    topology = Topology((flow,), dead_letters="dead-letters")
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(
        topology, settings, partitions=1, max_batch_records=together, max_epoch_records=together
    ) as driver:
        users = ["ada", EVE, EVE, "ada"]
        for number, user in enumerate(users):
            driver.pipe(ORDERS, [ordered(number, user)], settle=False)
        driver.settle()
        assert driver.table(COUNTS) == {"ada": 2, EVE: 1}
        assert dict(told(driver)) == {"ada": 2, EVE: 1}
        assert len(driver.sent("dead-letters")) == 1


@given(
    users=st.lists(st.sampled_from(["ada", "bob", EVE]), max_size=12),
    cut=cuts,
    blow=blows(st.sampled_from(Step)),
)
def test_what_is_left_of_changes_is_the_same_however_they_are_cut(
    users: Sequence[str], cut: Cuts, blow: Blow
) -> None:
    with TemporaryDirectory() as folder:
        driver = Driver(
            TOPOLOGY,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=1,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
        )
        with driver:
            driver.cut_input(cut.run_lengths)
            strike = {"crash": driver.crash_at, "fail": driver.fail_at}[blow.kind]
            strike(blow.step, blow.visit)
            for number, user in enumerate(users):
                driver.pipe(ORDERS, [ordered(number, user)], settle=False)
            settle(driver)
            disarm()
            changes = told(driver)
            assert dict(changes) == {user: users.count(user) for user in users if user != EVE}
            assert len(driver.sent("dead-letters")) == users.count(EVE)
            assert EVE not in driver.table(COUNTS)
            for user in users:  # none comes twice, and none before one that it replaces
                of_user = [orders for name, orders in changes if name == user]
                assert of_user == sorted(set(of_user))
