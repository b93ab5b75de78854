"""How a worker asks the others: over HTTP, with connections that stay open."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from tables.questions import Count, Part, Query, UnansweredError, WorkerView
from tables.web.wire import APPLICATION, FORWARDED, TABLES, path_of

T = TypeVar("T")

# A worker answers within milliseconds: one that does not is taken for gone, and a person waits.
_PATIENCE: Final = aiohttp.ClientTimeout(total=2.0, connect=1.0)
# A count walks over all rows, in between the work: half a million a second and less.
_COUNT_PATIENCE: Final = aiohttp.ClientTimeout(total=30.0, connect=1.0)
_decode_parts: Final = msgspec.json.Decoder(list[Part])
_decode_view: Final = msgspec.json.Decoder(WorkerView)


class OtherWorkers:
    """The other workers of one application."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._session = aiohttp.ClientSession(
            headers={FORWARDED: "1"}, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def parts(self, worker: str, query: Query) -> Sequence[Part]:
        """Return what the tasks of another worker say. Raises UnansweredError."""
        patience = _COUNT_PATIENCE if isinstance(query, Count) else _PATIENCE
        return await self._ask(worker, path_of(query), patience, _decode_parts)

    async def view(self, worker: str) -> WorkerView:
        """Return another worker's own row of the overview. Raises UnansweredError."""
        return await self._ask(worker, TABLES, _PATIENCE, _decode_view)

    async def _ask(
        self,
        worker: str,
        path: str,
        patience: aiohttp.ClientTimeout,
        decoder: msgspec.json.Decoder[T],
    ) -> T:
        try:
            # Encoded already: yarl would decode what it may, and take dots for folders.
            url = URL(f"http://{worker}{path}", encoded=True)
            async with self._session.get(url, timeout=patience, allow_redirects=False) as answer:
                body = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise UnansweredError("does not answer") from error
        if answer.headers.get(APPLICATION) != self._application:
            raise UnansweredError("is not there any more: something else answers at its address")
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise UnansweredError("is starting")
        try:
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            msg = f"answers with status {answer.status} and what cannot be read: is it of another version?"
            raise UnansweredError(msg) from error
