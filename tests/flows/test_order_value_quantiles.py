"""orders and users → order-values → order-value-quantiles: orders meet at the country of their time."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import load_settings
from streams.testing import Driver
from streams.topics import ORDER_VALUE_QUANTILES, ORDERS, USERS
from streams.topology import SALES
from tables.sales import ORDER_COUNTRIES
from tests.flows.selling import PARTITIONS, selling
from tests.flows.stories import NOW_MS, KeyValue, event_of, order, user_event
from tests.laws.world import Cuts, cuts

DAY_MS = 86_400_000
PEOPLE = ("ada", "bob", "cy")
# Of these some lie in each partition of order-values: their orders end the days there.
ENDERS = tuple(f"ender-{number}" for number in range(8))


class Told(NamedTuple):
    """Something a person did, so many ms behind NOW_MS."""

    person: int
    what: str
    at_ms: int

    @property
    def partition(self) -> int:
        return self.person % PARTITIONS

    def record(self, number: int) -> tuple[Any, KeyValue]:
        """Return topic, key and value."""
        user = PEOPLE[self.person]
        # No two at the same time: which of them holds from then on, the first or the second?
        at_ms = self.at_ms * 100 + number
        match self.what.split():
            case ["moves", country]:
                profile = {"username": user, "email": "a@example.org", "country": country}
                return USERS, user_event("registered", at_ms, user=user, **profile)
            case ["updates", country]:
                return USERS, user_event("updated", at_ms, user=user, changes={"country": country})
            case ["renames"]:
                return USERS, user_event("updated", at_ms, user=user, changes={"username": "x"})
            case ["leaves"]:
                return USERS, user_event("deleted", at_ms, user=user)
        return ORDERS, order(number, user=user, amount=float(self.what), at_ms=at_ms)


def expected(told: Sequence[Told]) -> dict[str | None, list[int]]:
    """Return the cents of each country's orders, in order, as the definition says it."""
    found: defaultdict[str | None, list[int]] = defaultdict(list)
    timed = [(each.at_ms * 100 + number, each) for number, each in enumerate(told)]
    for at_ms, each in timed:
        if not each.what[0].isdigit():
            continue
        country: str | None = None
        for other_ms, other in sorted(timed, key=lambda of: of[0]):
            if other.person == each.person and other_ms <= at_ms:
                match other.what.split():
                    case ["moves" | "updates", new]:
                        country = new
                    case ["leaves"]:
                        country = None
        found[country].append(round(float(each.what) * 100))
    return {country: sorted(cents) for country, cents in found.items()}


deeds = st.builds(
    Told,
    st.integers(0, len(PEOPLE) - 1),
    st.sampled_from(["moves PT", "updates BR", "renames", "leaves", "1", "20.5", "99.99", "1000"]),
    st.integers(0, 500),  # within the grace of a minute: whatever is told of a country is in time
)


@settings(deadline=None, max_examples=25)
@given(told=st.lists(deeds, max_size=14), cut=cuts)
def test_orders_count_where_their_users_were_however_the_inputs_are_cut(
    told: Sequence[Told], cut: Cuts
) -> None:
    with selling(cut) as driver:
        for number, each in enumerate(told):
            topic, record = each.record(number)
            driver.pipe(topic, [record], partition=each.partition, settle=False)
        driver.settle()
        # The next day each ender says where they are, and orders; then again, as orders wait a minute.
        for at_ms in (2 * DAY_MS, 2 * DAY_MS + 120_000):
            for number, ender in enumerate(ENDERS):
                profile = {"username": ender, "email": "a@example.org", "country": ender}
                moved = user_event("registered", at_ms, user=ender, **profile)
                at = number % PARTITIONS
                driver.pipe(USERS, [moved], partition=at, settle=False)
                last = order(1_000 + number, user=ender, at_ms=at_ms + 1)
                driver.pipe(ORDERS, [last], partition=at, settle=False)
            driver.settle()
        found = [event_of(sent) for sent in driver.sent(ORDER_VALUE_QUANTILES.name)]
        assert driver.sent(SALES.late_records) == []
        assert driver.sent(SALES.dead_letters) == []
        assert {key.partition("-")[0] for key in driver.table(ORDER_COUNTRIES)} >= {"ender"}
    of_country = expected(told)
    assert len(found) == len(of_country)
    for event in found:
        data, cents = event["data"], of_country[event["data"]["country"]]
        assert event["aggregate_id"] == (data["country"] or "")
        assert data["window_start"] == NOW_MS - NOW_MS % DAY_MS
        assert (data["orders"], round(data["amount"] * 100)) == (len(cents), sum(cents))
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
            true = cents[-(-percent * len(cents) // 100) - 1] / 100
            assert abs(data[name] - true) <= true / 100


def test_an_order_whose_time_is_over_is_valued_at_once(tmp_path: Path) -> None:
    with Driver(SALES, load_settings(data_dir=tmp_path), partitions=1) as driver:
        driver.pipe(USERS, [user_event("registered", 0, country="PT", username="a", email="a@b.c")])
        driver.pipe(ORDERS, [order(1, at_ms=200_000), order(2, at_ms=5)])
        driver.pipe(ORDERS, [order(3, at_ms=2 * DAY_MS), order(4, at_ms=3 * DAY_MS)])
        [event, *_] = [event_of(sent) for sent in driver.sent(ORDER_VALUE_QUANTILES.name)]
    assert (event["data"]["country"], event["data"]["orders"]) == ("PT", 2)
