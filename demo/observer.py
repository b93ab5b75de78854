"""What a consumer downstream sees (read_committed), and how far the workers are."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from demo.following import OutputFollower
from demo.load import SendTimes
from demo.oracle import parse
from demo.panel import Sights
from demo.texts import dead_letter_text, event_text, late_text
from demo.watched import Watched

_KEPT_LATENCIES = 200_000


class Observer(OutputFollower):
    """Reads what comes out as it becomes visible.

    `counts` is by topic, `latest` text by topic, `reasons` counts dead letters by their reason, `late` late
    records by the flow that they are late for.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        partitions: int,
        times: SendTimes,
        watched: Watched,
        sights: Sights,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.latest: dict[str, str] = {}
        self.latencies_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._new_latencies_ms: list[float] = []
        self._times = times
        self._watched = watched
        self._sights = sights
        beside = [TopicPartition(t, n) for t in sights.reads for n in range(partitions)]
        super().__init__(client, watched.app_id, partitions, watched, beside)

    def _take(self, topic: str, records: Sequence[Any]) -> None:
        for record in records:
            self._sights.see_record(topic, record)
        self.latest.update(self._sights.news)
        if topic in self._sights.reads:
            return
        self.counts[topic] += len(records)
        now_s = time.monotonic()
        for record in records:
            self._see(topic, record, now_s)

    async def lag(self) -> int:
        """Return how many records the workers have not committed yet. Raises as `standings`."""
        return sum(max(0, at.end - at.committed) for at in (await self.standings()).values())

    async def tasks(self) -> dict[str, list[str]] | None:
        """Return the partitions of each member by client id; None while that is open."""
        try:
            answers = await self._admin.describe_consumer_groups([self._group])
        except KafkaError:  # its coordinator is made with its first member
            return None
        group = answers[0].to_object()["groups"][0]
        if group["state"] != "Stable":
            return None
        return {m["client_id"]: _assigned(m["member_assignment"]) for m in group["members"]}

    def take_new_latencies_ms(self) -> Sequence[float]:
        """Return the latencies of what was seen since the last call."""
        taken, self._new_latencies_ms = self._new_latencies_ms, []
        return taken

    @property
    def derived(self) -> int:
        """Return how many derived events were seen."""
        return sum(self.counts[topic] for topic in self._watched.outputs)

    def _see(self, topic: str, record: Any, now_s: float) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        if topic == self._watched.dead_letters:
            self.reasons[headers["headrace.reason"]] += 1
            self.latest[topic] = dead_letter_text(headers)
        elif topic == self._watched.late_records:
            self.late[headers["headrace.flow"]] += 1
            self.latest[topic] = late_text(headers)
        else:
            self._see_event(topic, parse(record.value), now_s)

    def _see_event(self, topic: str, event: Any, now_s: float) -> None:
        self.latest[topic] = event_text(event)
        # What tells of a window has no cause; what is passed on need not be known by its cause.
        sent_s = self._times.take(event["causation_id"] or event["event_id"])
        if sent_s is not None:
            self.latencies_ms.append((now_s - sent_s) * 1_000)
            self._new_latencies_ms.append((now_s - sent_s) * 1_000)


def _assigned(assignment: bytes) -> list[str]:
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return sorted(
        f"{topic}-{number}" for topic, numbers in decoded.assignment for number in numbers
    )
