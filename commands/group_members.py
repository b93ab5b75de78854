"""A group as its coordinator describes it, on a Kafka that may just have started."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

from commands.asking import ANSWER_TIMEOUT_S
from streams.engine.kafka_assignor import told_by

_ASK_AGAIN_S = 0.1
# A new cluster makes the groups' topic when it is asked for the first one: that takes a second or two.
_COORDINATOR_WAIT_S = 5.0


async def described(admin: AIOKafkaAdminClient, group: str) -> dict[str, Any]:
    """Return a group's state and members: none where no broker comes to coordinate groups.

    Raises KafkaError for what waiting does not mend, else TimeoutError.
    """
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        while True:
            try:
                return await _described(admin, group)
            except GroupCoordinatorNotAvailableError:
                if loop.time() - start_s > _COORDINATOR_WAIT_S:
                    return {"state": "Dead", "members": []}
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(_ASK_AGAIN_S)


async def _described(admin: AIOKafkaAdminClient, group: str) -> dict[str, Any]:
    answers = await admin.describe_consumer_groups([group])
    found: dict[str, Any] = answers[0].to_object()["groups"][0]
    if found["error_code"]:
        raise for_code(found["error_code"])(found["group"])
    return found


def web_address(member: dict[str, Any]) -> str:
    """Return where a member of a group says that its web view is; empty if it says nothing."""
    return told_by(member["member_metadata"]).web if member["member_metadata"] else ""
