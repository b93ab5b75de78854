"""A connection on which nothing is answered any more and that nobody closes, as when a firewall forgot it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.errors import KafkaUnavailableError
from streams.engine.kafka import KafkaCluster, KafkaOptions
from tests.faults.proxy import Api, Fate, Proxy, proxied_kafka
from tests.waiting import until

_TP = TopicPartition("orders", 0)
_API_OF = {
    "committed": Api.OFFSET_FETCH,
    "topics": Api.METADATA,
    "bounds": Api.LIST_OFFSETS,
    "coordinator": Api.FIND_COORDINATOR,
    "tombstones_kept_ms": Api.DESCRIBE_CONFIGS,
}


@asynccontextmanager
async def _asking(folder: Path) -> AsyncIterator[tuple[KafkaCluster, Proxy]]:
    """Yield a cluster whose requests are given up after a second, and the network before it."""
    async with proxied_kafka(folder / "kafka") as (kafka, network):
        client = {"bootstrap_servers": kafka.bootstrap}
        await ensure_topics(client, [TopicSpec("orders", 1, {})], replication_factor=1)
        options = KafkaOptions(
            client={"bootstrap_servers": network.bootstrap},
            group="asking",
            request_timeout_ms=1_000,
        )
        cluster = KafkaCluster(options)
        await cluster.start()
        try:
            yield cluster, network
        finally:
            await cluster.stop()


@pytest.mark.timeout(180)
async def test_what_is_asked_again_is_not_asked_on_the_connection_that_fell_silent(
    tmp_path: Path,
) -> None:
    async with _asking(tmp_path) as (cluster, network):
        for what in _API_OF:
            await _is_answered(cluster, what)
            await _recovers(cluster, network, what)


@pytest.mark.timeout(180)
async def test_a_silence_costs_nothing_that_is_asked_elsewhere(tmp_path: Path) -> None:
    async with _asking(tmp_path) as (cluster, network):
        await _is_answered(cluster, "committed")
        network.trap(Api.OFFSET_FETCH, Fate.NO_ANSWER)
        waiting = asyncio.create_task(_ask(cluster, "committed"))
        while not waiting.done():
            await _ask(cluster, "bounds")  # on a connection of its own, again and again
        with pytest.raises(KafkaUnavailableError):
            await waiting


async def _recovers(cluster: KafkaCluster, network: Proxy, what: str) -> None:
    trap = network.trap(_API_OF[what], Fate.NO_ANSWER)
    await _is_answered(cluster, what)
    async with asyncio.timeout(1):
        await trap.sprung.wait()


async def _is_answered(cluster: KafkaCluster, what: str) -> None:
    """Ask until there is an answer: a new broker's coordinator may take more than a second, too."""

    async def asked() -> bool:
        try:
            await _ask(cluster, what)
        except KafkaUnavailableError:
            return False
        return True

    await until(asked, deadline_s=30)


async def _ask(cluster: KafkaCluster, what: str) -> None:
    match what:
        case "committed" | "coordinator":
            await cluster.committed([_TP])
        case "topics":
            await cluster.topics(["orders"])
        case "bounds":
            await cluster.bounds([_TP])
        case _:
            await cluster.tombstones_kept_ms("orders")
