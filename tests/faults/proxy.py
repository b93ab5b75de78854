"""A network that can be slow, cut, deaf or dumb, between workers and one broker.

A TCP proxy in the test's own process. It knows where Kafka's requests and answers begin and end, and
of which API each is, so that exactly one can be lost. As TCP does, it loses nothing in the midst of a
connection: what is held up arrives later, even where the sender has long given up.
"""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum, StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.broker import EmbeddedKafka
from streams.kafka_node import HOST, free_ports

_LISTENER: Final = "PROXIED"
_SIZE: Final = struct.Struct(">i")
_REQUEST: Final = struct.Struct(">hhi")  # API, its version, correlation id
_START_TIMEOUT_S: Final = 180.0
_FRAMES_UNDER_WAY: Final = 1_000
_END: Final = b""


class Api(IntEnum):
    """Numbers of Kafka's protocol: what a request asks for."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32


class Fate(StrEnum):
    """What becomes of one request, as a report says it."""

    LOST = "lost"
    """The broker never sees it: the connection is cut before it."""
    ANSWER_LOST = "done, its answer lost"
    """The broker does what it asks; the connection is cut before the answer."""
    NO_ANSWER = "done and never answered"
    """The broker does what it asks; the connection stays open and silent."""
    SLOW = "slow"
    """It stays on its way until Trap.release."""
    HELD_UP = "arriving after its connection has ended"
    """As SLOW, and its sender's connection is cut: nobody hears the answer when it arrives at last."""


class Trap:
    """Waits for the next request of an API."""

    def __init__(self, api: Api, fate: Fate) -> None:
        self.api = api
        self.fate = fate
        self.sprung = asyncio.Event()
        """Set when the request has met its fate: for a lost answer, when that has come."""
        self.released = asyncio.Event()
        self.answered = asyncio.Event()
        """Set when the broker has answered a request that was slow or held up."""

    def release(self) -> None:
        """Let what is held up go on to the broker."""
        self.released.set()


class Way:
    """One direction, of all connections."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        """How much later each frame arrives."""
        self._is_open = asyncio.Event()
        self._is_open.set()

    def close(self) -> None:
        """Let nothing through; senders do not notice."""
        self._is_open.clear()

    def open(self) -> None:
        """Let through what is waiting, and what comes."""
        self._is_open.set()

    async def passes(self, due_s: float) -> None:
        """Return when a frame that is due then may arrive."""
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())
        await self._is_open.wait()


class Proxy:
    """Where workers find the broker: at `bootstrap`. Use `proxied_kafka`."""

    def __init__(self) -> None:
        self.requests = Way()
        self.answers = Way()
        self.port = 0
        self.broker_port = 0
        self.transaction_timeout_ms: int | None = None
        """What the broker is told instead of the producers' own."""
        self._traps: list[Trap] = []
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def bootstrap(self) -> str:
        """Its address, as KAFKA_BROKERS has it."""
        return f"{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def trap(self, api: Api, fate: Fate) -> Trap:
        """Set a trap for the next request of an API."""
        trap = Trap(api, fate)
        self._traps.append(trap)
        return trap

    def cut(self) -> None:
        """End all connections that there are, at once, with what is on its way in them."""
        for connection in list(self._connections):
            connection.cut()

    def trapped(self, api: int) -> Trap | None:
        """Return the trap that a request of an API falls into, if any; it is used up."""
        for trap in self._traps:
            if trap.api == api:
                self._traps.remove(trap)
                return trap
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        # asyncio's server takes a cancelled connection for a failed one.
        with contextlib.suppress(asyncio.CancelledError):
            await self._connect((reader, writer))
        self._serving.discard(task)

    async def _connect(self, client: "_Streams") -> None:
        try:
            broker = await asyncio.open_connection(HOST, self.broker_port)
        except OSError:
            client[1].transport.abort()
            return
        connection = _Connection(self, client, broker)
        self._connections.add(connection)
        try:
            await connection.last()
        finally:
            self._connections.discard(connection)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """A client's connection, and the one to the broker that goes with it."""

    def __init__(self, proxy: Proxy, client: _Streams, broker: _Streams) -> None:
        self._proxy = proxy
        self._client = client
        self._broker = broker
        self._trapped: deque[Trap | None] = deque()
        """Of each request that is not answered yet: whether its answer is kept back."""

    async def last(self) -> None:
        """Pass on what comes until both sides have ended, or one was cut."""
        ways = [
            _Pump(self._client[0], self._broker[1], self._proxy.requests, self._request),
            _Pump(self._broker[0], self._client[1], self._proxy.answers, self._answer),
        ]
        try:
            await asyncio.gather(*(way.run() for way in ways))
        except (OSError, _CutError):
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """End both connections as a broken one ends."""
        self._client[1].transport.abort()
        self._broker[1].transport.abort()

    async def _request(self, frame: bytes) -> bytes:
        api, _, _ = _REQUEST.unpack_from(frame, _SIZE.size)
        if api == Api.INIT_PRODUCER_ID and self._proxy.transaction_timeout_ms is not None:
            # The last field of version 0, which is all that aiokafka speaks.
            frame = frame[: -_SIZE.size] + _SIZE.pack(self._proxy.transaction_timeout_ms)
        trap = self._proxy.trapped(api)
        if trap is not None and trap.fate is Fate.LOST:
            trap.sprung.set()
            raise _CutError
        if trap is not None and trap.fate in {Fate.SLOW, Fate.HELD_UP}:
            trap.sprung.set()
            if trap.fate is Fate.HELD_UP:
                self._client[1].transport.abort()
            await trap.released.wait()
        if trap is not None and trap.fate is Fate.NO_ANSWER:
            trap.sprung.set()  # now: an earlier silence of this connection may keep the answer back
        self._trapped.append(trap)
        return frame

    async def _answer(self, frame: bytes) -> bytes:
        trap = (
            self._trapped.popleft()
        )  # a broker answers the requests of a connection in their order
        if trap is not None and trap.fate in {Fate.SLOW, Fate.HELD_UP}:
            trap.answered.set()
        elif trap is not None:
            trap.sprung.set()
            if trap.fate is Fate.ANSWER_LOST:
                raise _CutError
            await asyncio.Event().wait()  # until the connection ends
        return frame


class _CutError(Exception):
    """The connection is to end here."""


class _Pump:
    """Passes frames on, one way of one connection."""

    def __init__(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        way: Way,
        look: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        self._source = source
        self._target = target
        self._way = way
        self._look = look
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_FRAMES_UNDER_WAY)

    async def run(self) -> None:
        """Pass on until the source ends, and tell the target of the end."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()

    async def _read(self) -> None:
        now_s = asyncio.get_running_loop().time
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = await self._source.readexactly(_SIZE.size)
                frame = size + await self._source.readexactly(*_SIZE.unpack(size))
                await self._under_way.put((now_s() + self._way.delay_s, frame))
        await self._under_way.put((0.0, _END))

    async def _write(self) -> None:
        while True:
            due_s, frame = await self._under_way.get()
            await self._way.passes(due_s)
            if frame is _END:
                self._target.write_eof()
                return
            self._target.write(await self._look(frame))
            await self._target.drain()


@asynccontextmanager
async def proxied_kafka(
    folder: Path, properties: Mapping[str, str] = {}
) -> AsyncIterator[tuple[EmbeddedKafka, Proxy]]:
    """Run a broker, and the proxy at which those find it who were told the proxy's address."""
    async with Proxy() as proxy:
        [port] = free_ports([0])
        kafka = EmbeddedKafka(
            folder,
            port=port,
            more_listeners={_LISTENER: "PLAINTEXT"},
            properties={
                "advertised.listeners": f"PLAINTEXT://{HOST}:{port},{_LISTENER}://{proxy.bootstrap}",
                **properties,
            },
            start_timeout_s=_START_TIMEOUT_S,
        )
        with kafka:
            proxy.broker_port = int(kafka.bootstrap_of(_LISTENER).rpartition(":")[2])
            yield kafka, proxy
