"""`python -m bench.programs.reader`: reads the orders as fast as aiokafka gives them, and commits."""

from __future__ import annotations

import asyncio
import os
import signal

from aiokafka import AIOKafkaConsumer

_POLL_MS = 100
_MOST_RECORDS = 10_000


async def _read(until: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(
        "orders",
        bootstrap_servers=os.environ["BENCH_BOOTSTRAP"],
        group_id=os.environ["BENCH_APP_ID"],
        auto_offset_reset="earliest",
        auto_commit_interval_ms=int(os.environ["BENCH_COMMIT_INTERVAL_MS"]),
        # 1 MiB by default: a fetch then brings few records for what it costs.
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        while not until.is_set():
            await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
    finally:
        await consumer.stop()


async def _main() -> None:
    until = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, until.set)
    await _read(until)


if __name__ == "__main__":
    asyncio.run(_main())
