"""Laws 7 and 8: the same input gives the same again, byte by byte, and money is exact."""

from collections.abc import Sequence
from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from demo.readback import OUTPUTS
from streams.testing import Sent
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS
from tests.laws.world import Cuts, Piped, World, cuts, inputs, order


def outcome(piped: Sequence[Piped], cut: Cuts) -> tuple[list[Sent], list[dict[str, bytes]]]:
    with World(cut) as world:
        world.append(piped)
        world.start(1)
        world.settle()
        driver = world.driver
        events = [sent for topic in OUTPUTS for sent in driver.sent(topic)]
        changelogs = [driver.changelog(table) for table in TOPOLOGY.tables]
        # Offsets tell where transactions ended, which is chance.
        return [sent._replace(offset=0) for sent in events], changelogs


@given(piped=inputs(max_size=40), first=cuts, second=cuts)
def test_a_replay_gives_the_same_bytes(piped: Sequence[Piped], first: Cuts, second: Cuts) -> None:
    assert outcome(piped, first) == outcome(piped, second)


@given(
    cents=st.lists(st.integers(0, 10**15), min_size=1, max_size=12),
    shuffled=st.randoms(use_true_random=False),
    cut=cuts,
)
def test_sums_are_exact_and_do_not_depend_on_order(
    cents: list[int], shuffled: Random, cut: Cuts
) -> None:
    shuffled.shuffle(cents)
    with World(cut) as world:
        world.append(order(0, 0, amount, 0, number) for number, amount in enumerate(cents))
        world.start(1)
        world.settle()
        (row,) = world.driver.table(USER_ORDERS).values()
        assert row.amount_cents == sum(cents)
        (value,) = world.driver.changelog(USER_ORDERS).values()
        assert USER_ORDERS.decode(value) == row
        assert f'"amount":{Decimal(sum(cents)) / 100}'.split(".")[0].encode() in value
