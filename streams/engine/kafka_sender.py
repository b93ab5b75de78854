"""What aiokafka's producer runs beside its sender, and does not end with it.

Each request of the sender is a task. A sender that is cancelled waits for them, and some wait for good:
for a coordinator that nobody looks for any more, or for batches that nobody sends.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer


def requests_of(producer: AIOKafkaProducer) -> set[asyncio.Task[Any]]:
    """Return the set that has the tasks of a producer's requests from now on, as long as they run."""
    running: set[asyncio.Task[Any]] = set()
    sender = producer._sender  # noqa: SLF001
    ask, produce = sender._maybe_do_transactional_request, sender._send_produce_req  # noqa: SLF001

    def keep(task: asyncio.Task[Any]) -> None:
        running.add(task)
        task.add_done_callback(running.discard)

    def asking() -> asyncio.Task[Any] | None:
        task: asyncio.Task[Any] | None = ask()
        if task is not None:
            keep(task)
        return task

    async def producing(node_id: Any, batches: Any) -> None:
        this = asyncio.current_task()
        assert this is not None  # noqa: S101 - the sender makes one for it
        keep(this)
        await produce(node_id, batches)

    sender._maybe_do_transactional_request = asking  # noqa: SLF001
    sender._send_produce_req = producing  # noqa: SLF001
    return running
