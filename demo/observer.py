"""What a consumer downstream sees (read_committed), and how far the workers are."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from demo.following import OutputFollower
from demo.load import SendTimes
from demo.oracle import parse
from streams.topics import DEAD_LETTERS

_KEPT_LATENCIES = 200_000
_ENGLISH_TEENS = (11, 12, 13)


class Observer(OutputFollower):
    """Reads what comes out as it becomes visible.

    `counts` is by topic, `latest` text by topic, `reasons` counts dead letters by their reason.
    """

    def __init__(
        self, client: Mapping[str, Any], group: str, partitions: int, times: SendTimes
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.latest: dict[str, str] = {}
        self.latencies_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._new_latencies_ms: list[float] = []
        self._times = times
        super().__init__(client, group, partitions)

    def _take(self, topic: str, records: Sequence[Any]) -> None:
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

    def _see(self, topic: str, record: Any, now_s: float) -> None:
        if topic == DEAD_LETTERS:
            headers = {name: value.decode() for name, value in record.headers}
            self.reasons[headers["headrace.reason"]] += 1
            self.latest[topic] = _dead_letter_text(headers)
            return
        event = parse(record.value)
        self.latest[topic] = _event_text(event)
        sent_s = self._times.take(event["causation_id"])
        if sent_s is not None:
            self.latencies_ms.append((now_s - sent_s) * 1_000)
            self._new_latencies_ms.append((now_s - sent_s) * 1_000)


def _assigned(assignment: bytes) -> list[str]:
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return sorted(
        f"{topic}-{number}" for topic, numbers in decoded.assignment for number in numbers
    )


def _dead_letter_text(headers: Mapping[str, str]) -> str:
    topic, partition, offset = (
        headers[f"__streams.errors.{part}"] for part in ("topic", "partition", "offset")
    )
    return f"DEAD  {topic}-{partition}@{offset}  {headers['headrace.reason']}"


def _event_text(event: Any) -> str:
    data = event["data"]
    if event["event_type"] == "user.vip_upgraded":
        nth = _ordinal(data["order_count"])
        return f"VIP   {data['user_id']} at the {nth} order {data['order_id']}"
    if event["event_type"] == "order.enriched":
        return f"ORDER {data['order_id']} of {_user_text(data)}"
    return f"HIGH  {data['user_id']} {data['amount']:,.2f} {data['currency']} {data['order_id']}"


def _user_text(data: Any) -> str:
    user = data["user"]
    if user is None:
        return "an unknown user"
    name = user["email"] or data["user_id"]
    return f"{name} in {user['country']}" if user["country"] else str(name)


def _ordinal(number: int) -> str:
    if number % 100 in _ENGLISH_TEENS:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
