"""Where the workers of an application are, and how one of them is asked: over HTTP (docs/contract.md)."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from streams.errors import HeadraceError
from tables.web.wire import APPLICATION

if TYPE_CHECKING:
    from config.settings import Settings

_ANSWER_TIMEOUT_S = 5.0
# A count walks over all rows, here and there, for as long as one worker waits for another.
_COUNT_TIMEOUT_S = 40.0
_LOOK_AGAIN_S = 0.2
_OK = 200
_NOT_NOW = 503


class Workers:
    """The workers of one application: whoever of them answers first is asked from then on."""

    def __init__(self, settings: Settings, worker: str | None) -> None:
        """`worker` is the one to ask; without it the group's members are, or this machine's worker."""
        self._settings = settings
        self._worker = worker
        self._found: str | None = None

    def ask(self, path: str, *, is_count: bool = False) -> bytes:
        """Return a worker's answer. Raises HeadraceError, in one line, where there is none."""
        timeout_s = _COUNT_TIMEOUT_S if is_count else _ANSWER_TIMEOUT_S
        tried: list[str] = []
        for address in self._candidates():
            try:
                status, application, body = _asked(address, path, timeout_s)
            except (OSError, http.client.HTTPException):  # a time-out is an OSError
                tried.append(address)
                continue
            if application == self._settings.app_id:
                self._found = address
                if status != _OK:
                    raise _refusal(status, body)
                return body
            if self._worker:
                raise self._stranger(address, application)
            tried.append(address)
        raise self._nobody(tried)

    def _candidates(self) -> Iterator[str]:
        if known := self._worker or self._found:
            yield known
        elif self._settings.kafka_brokers:
            yield from _members(self._settings)
        else:  # a worker with an embedded Kafka, whose address only that worker knows
            yield f"127.0.0.1:{self._settings.web_port}"

    def _stranger(self, address: str, application: str | None) -> HeadraceError:
        is_what = (
            f"a worker of application {application}" if application else "no worker of Headrace"
        )
        return HeadraceError(
            f"what answers at {address} is {is_what}: say another --worker, or set HEADRACE_APP_ID "
            f"(it is {self._settings.app_id} now)"
        )

    def _nobody(self, tried: Sequence[str]) -> HeadraceError:
        name = self._settings.app_id
        if not tried:
            msg = f"no worker of application {name} runs: start one (headrace worker)"
            return HeadraceError(msg)
        hint = "" if self._settings.kafka_brokers or self._worker else ", or set KAFKA_BROKERS"
        return HeadraceError(
            f"no worker of application {name} answers at {', '.join(tried)}: start one (headrace "
            f"worker), or say where it is (--worker HOST:PORT){hint}"
        )


def _asked(address: str, path: str, timeout_s: float) -> tuple[int, str | None, bytes]:
    """Return status, application and body. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader(APPLICATION), answer.read()
    finally:
        connection.close()


def _refusal(status: int, body: bytes) -> HeadraceError:
    """Return what the worker said instead of an answer."""
    try:
        line = str(msgspec.json.decode(body)["error"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        line = f"status {status}"
    return HeadraceError(f"not now: {line}; try again in a moment" if status == _NOT_NOW else line)


def _members(settings: Settings) -> list[str]:
    """Return the addresses that the group's members have told. Raises HeadraceError without Kafka."""
    import asyncio

    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(_told_addresses(settings))
    except (KafkaError, TimeoutError) as error:
        raise HeadraceError(
            f"Kafka does not say who is in group {settings.app_id} ({error or 'no answer'}); say "
            "where a worker is (--worker HOST:PORT)"
        ) from error


async def _told_addresses(settings: Settings) -> list[str]:
    import asyncio

    from commands.asking import ANSWER_TIMEOUT_S
    from commands.group_members import described, web_address
    from config.kafka_client import kafka_client_options
    from streams.engine.admin import connected

    client = kafka_client_options(settings)
    async with connected(client, timeout_s=ANSWER_TIMEOUT_S) as admin:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while True:
                group = await described(admin, settings.app_id)
                if "Rebalance" not in group["state"]:  # in the midst of one nobody tells anything
                    break
                await asyncio.sleep(_LOOK_AGAIN_S)
    return sorted({web_address(member) for member in group["members"]} - {""})
