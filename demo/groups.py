"""START HERE: the demo of each group of flows: what is sent, what is shown, what is checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from demo.deduplication_check import check_deduplication
from demo.event_clock import AROUND_MIDNIGHT, BELL_AFTER_MS, FAST, LATENESS, SALES_LATENESS, Course
from demo.generator import OrderGenerator, TopicKeyValue
from demo.panel import Sights
from demo.poison import ORDERS
from demo.readback import Disk, Records, Verdict, check
from demo.repeats import repeated
from demo.sales_check import check_sales
from demo.sights import DeduplicationSights, MainSights, SalesSights, WindowsSights
from demo.traffic import Clock, Traffic
from demo.watched import DEDUPLICATION_GROUP, MAIN_GROUP, SALES_GROUP, WINDOWS_GROUP, Watched
from demo.windows_check import check_windows

_RESTARTS_EACH_S = 3.0


class Wanted(NamedTuple):
    """What the traffic is to be like."""

    seed: int
    users: int
    poison: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """The demo of a group of flows."""

    watched: Watched
    traffic: Callable[[Wanted], Traffic]
    course: Course | None
    """How event time goes; None: as the clock does."""
    sights: Callable[[], Sights]
    """What the live view shows of it."""
    check: Callable[[Records, Disk, str], Verdict]
    """Compares all that came out with the oracle; the last is the application id."""


def _main(wanted: Wanted) -> Traffic:
    generator = OrderGenerator(*wanted)
    return Traffic(records=generator.records, poisons=generator.poisons, answered="-created")


def _windows(wanted: Wanted) -> Traffic:
    generator = OrderGenerator(*wanted, payments=True, lateness=LATENESS)
    return Traffic(records=generator.records, poisons=generator.poisons, answered="-payment")


def _sales(wanted: Wanted) -> Traffic:
    generator = OrderGenerator(*wanted, products=True, lateness=SALES_LATENESS)

    def closes(event_ms: int, partitions: int) -> Iterator[TopicKeyValue]:
        yield from generator.test_order(event_ms, partitions)
        yield from generator.bell(event_ms + BELL_AFTER_MS, partitions)

    return Traffic(
        records=generator.records,
        poisons=generator.poisons,
        answered="-stock",
        opening=generator.opening,
        opens=generator.test_order,
        closes=closes,
    )


def _deduplication(wanted: Wanted) -> Traffic:
    generator = OrderGenerator(*wanted)

    def records(clock: Clock, sent_ms: Clock) -> Iterator[TopicKeyValue]:
        made = (each for each in generator.records(clock, sent_ms) if each[0] == ORDERS)
        return repeated(made, clock, wanted.seed)

    return Traffic(
        records=records,
        poisons=[poison for poison in generator.poisons if poison.topic == ORDERS],
        answered="-created",
        restarts_each_s=_RESTARTS_EACH_S,
    )


_GROUPS = (
    Group(
        watched=MAIN_GROUP,
        traffic=_main,
        course=None,
        sights=MainSights,
        check=check,
    ),
    Group(
        watched=WINDOWS_GROUP,
        traffic=_windows,
        course=Course(),
        sights=WindowsSights,
        check=check_windows,
    ),
    Group(
        watched=DEDUPLICATION_GROUP,
        traffic=_deduplication,
        course=FAST,
        sights=DeduplicationSights,
        check=check_deduplication,
    ),
    Group(
        watched=SALES_GROUP,
        traffic=_sales,
        course=AROUND_MIDNIGHT,
        sights=SalesSights,
        check=check_sales,
    ),
)
GROUPS: Final = {group.watched.name: group for group in _GROUPS}
