"""`headrace tables`, and the web view behind it: two worker processes on a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from aiokafka import AIOKafkaProducer

from commands.main import run
from streams.broker import EmbeddedKafka
from streams.engine.store import Store
from tests.faults.workers import WorkerProcess
from tests.flows.stories import NOW_MS, order
from tests.waiting import until, until_true

APP_ID = "tables"
PARTITIONS = 4
# One user a partition, wherever its key would hash to.
USERS = ("ada", "<i>bob</i>", "carl/2", "dörte@example.com")
HEADRACE = [sys.executable, "-c", "from commands.main import main; main()"]
ROOT = Path(__file__).parents[2]


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(address: str, path: str) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())


def row_path(user: str) -> str:
    return f"/api/tables/user_orders/{quote(user, safe='')}"


class Application:
    """Worker processes that were all told the same port."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.workers: list[WorkerProcess] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(
            self.folder / f"worker-{len(self.workers)}",
            self.kafka.bootstrap,
            APP_ID,
            kafka_session_timeout_ms=2_000,
            kafka_heartbeat_interval_ms=300,
            headrace_web_port=self.port,
        )
        self.workers.append(worker)
        worker.start()
        return worker

    async def address(self, worker: WorkerProcess) -> str:
        """Return where a worker says that its web view is."""

        async def said() -> str | None:
            assert worker.process.poll() is None, worker.said()
            found = re.search(r"web view at http://([\d.:]+)/", worker.said())
            return found and found[1]

        address = await until(said)
        assert address is not None
        return address

    async def send(self, orders: range) -> None:
        """Send an order of each user to the user's partition, so often."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap) as producer:
            for number in orders:
                for partition, user in enumerate(USERS):
                    key, value = order(number, user=user)
                    await producer.send_and_wait("orders", value, key, partition)

    def owners(self, asked: str) -> dict[str, str]:
        """Return the owner of each task that runs, as a worker tells it; none while it cannot tell."""
        return {
            task["task"]: worker["worker"]
            for worker in ask(asked, "/api/tables").json.get("workers", [])
            for task in worker["tasks"]
            if task["state"] == "running"
        }

    async def shared(self, *addresses: str) -> None:
        """Return when these workers have all tasks, each some, and each knows it."""

        def all_run() -> bool:
            found = [self.owners(asked) for asked in addresses]
            return all(
                len(owners) == PARTITIONS and set(owners.values()) == set(addresses)
                for owners in found
            )

        await until_true(all_run)

    async def has(self, asked: str, orders: int) -> None:
        """Return when every user's row counts so many orders."""

        def counted() -> bool:
            answers = [ask(asked, row_path(user)) for user in USERS]
            return all(a.status == 200 and a.json["value"]["orders"] == orders for a in answers)

        await until_true(counted)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        running = Application(kafka, tmp_path_factory.mktemp("workers"))
        try:
            asyncio.run(_two_workers(running))
            yield running
        finally:
            for worker in running.workers:
                worker.kill()


async def _two_workers(application: Application) -> None:
    first = application.start_worker()
    addresses = [await application.address(first)]
    addresses.append(await application.address(application.start_worker()))
    await application.shared(*addresses)
    await application.send(range(3))
    await application.has(addresses[0], 3)


@pytest.fixture
async def addresses(application: Application) -> list[str]:
    return [await application.address(worker) for worker in application.workers[:2]]


@pytest.fixture
def headrace(
    application: Application, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run `headrace tables` in this process; return status, output and error."""
    for name in [name for name in os.environ if name.startswith(("KAFKA_", "HEADRACE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAFKA_BROKERS", application.kafka.bootstrap)
    monkeypatch.setenv("HEADRACE_APP_ID", APP_ID)

    def ran(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run(["tables", *args])
        return status, *capfd.readouterr()

    return ran


# -- the view --------------------------------------------------------------------------------------


async def test_a_second_worker_takes_the_next_free_port_and_says_so(
    application: Application, addresses: list[str]
) -> None:
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    assert ports[0] == application.port
    assert ports[1] > application.port
    assert f"(port {application.port} is taken)" in application.workers[1].said()


async def test_every_key_is_reached_through_either_worker(
    application: Application, addresses: list[str]
) -> None:
    for asked in addresses:
        owners = application.owners(asked)
        for partition, user in enumerate(USERS):
            found = ask(asked, row_path(user)).json
            assert (found["key"], found["value"]["orders"]) == (user, 3)
            assert (found["task"], found["worker"]) == (
                f"orders-{partition}",
                owners[f"orders-{partition}"],
            )
            assert found["sources"]["orders"] >= 3
        assert ask(asked, row_path("nobody")).status == 404


async def test_each_worker_serves_the_page(addresses: list[str]) -> None:
    for asked in addresses:
        page = ask(asked, "/")
        assert page.status == 200
        assert b"<title>Headrace</title>" in page.body


async def test_a_host_that_is_not_this_machine_stops_a_worker_in_one_line(
    application: Application, tmp_path: Path
) -> None:
    bootstrap = application.kafka.bootstrap
    worker = WorkerProcess(tmp_path, bootstrap, "elsewhere", headrace_web_host="192.0.2.1")
    worker.start()
    assert await asyncio.to_thread(worker.process.wait, 45) == 1
    assert worker.said().splitlines()[-1] == (
        "headrace: the web view cannot listen at 192.0.2.1, port 6066 (Cannot assign requested "
        "address): set HEADRACE_WEB_HOST to an address of this machine, and HEADRACE_WEB_PORT"
    )
    assert "Traceback" not in worker.said()


# -- the commands ----------------------------------------------------------------------------------


def test_get_finds_a_worker_through_the_group_and_prints_the_row(headrace: Any) -> None:
    for user in USERS:
        status, out, err = headrace("get", "user_orders", user)
        assert (status, json.loads(out)["orders"]) == (0, 3)
        assert re.fullmatch(r"orders-\d of 127\.0\.0\.1:\d+ has it, as of orders \d+\n", err)
        told = json.loads(headrace("get", "user_orders", user, "--json")[1])
        assert (told["key"], told["value"]["orders"]) == (user, 3)


def test_without_brokers_the_worker_of_this_machine_is_asked(
    application: Application, headrace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BROKERS")
    monkeypatch.setenv("HEADRACE_WEB_PORT", str(application.port))
    assert headrace("get", "user_orders", "ada")[0] == 0


def test_scan_prints_rows_of_all_workers_in_key_order(headrace: Any) -> None:
    status, out, err = headrace("scan", "user_orders", "--json")
    assert (status, err) == (0, "")
    assert [json.loads(line)["key"] for line in out.splitlines()] == sorted(USERS)
    status, out, err = headrace("scan", "user_orders", "--limit", "2")
    assert [line.split("  ")[0] for line in out.splitlines()] == sorted(USERS)[:2]
    assert err == f"there are more: go on with --after {sorted(USERS)[1]!r}\n"
    _, out, err = headrace("scan", "user_orders", "--after", sorted(USERS)[1], "--prefix", "c")
    assert (out.split()[0], err) == ("carl/2", "")


def test_scan_prints_windows_of_a_key(headrace: Any) -> None:
    args = ("scan", "user_order_minutes", "--key", USERS[3], "--from", str(NOW_MS))
    status, out, _ = headrace(*args, "--to", str(NOW_MS + 1), "--json")
    assert (status, json.loads(out)["key"]) == (0, f"{USERS[3]}@{NOW_MS}")
    assert json.loads(out)["value"]["orders"] == 3


def test_count_and_list_tell_of_the_whole_application(headrace: Any, addresses: list[str]) -> None:
    assert headrace("count", "user_orders")[:2] == (0, f"{len(USERS)}\n")
    assert json.loads(headrace("count", "user_orders", "--prefix", "a", "--json")[1])["count"] == 1
    status, out, _ = headrace("list")
    assert status == 0
    for told in (*addresses, "user_orders", "windowed", "orders-3", "running"):
        assert told in out
    overview = json.loads(headrace("list", "--json")[1])
    assert {worker["worker"] for worker in overview["workers"]} == set(addresses)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["get", "user_orders", "nobody"], "table user_orders has no row with the key 'nobody'"),
        (["get", "orders", "ada"], "there is no table 'orders'; there are user_order_minutes"),
        (["count", "nope"], "there is no table 'nope'"),
        (["watch", "nope"], "there is no table 'nope'"),
        (["get", "user_orders", "a", "--worker", "127.0.0.1:1"], "no worker of application tables"),
        (["get", "user_orders", "\udc80"], "keys are text in UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_line(headrace: Any, args: list[str], told: str) -> None:
    status, out, err = headrace(*args)
    assert (status, out) == (1, "")
    assert err.startswith(f"headrace: {told}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["scan", "users", "--key", "ada"], "`headrace tables get users ada` prints a row"),
        (["scan", "user_order_minutes", "--from", "1"], "--from and --to need --key"),
        (["scan", "user_order_minutes", "--key", "a", "--prefix", "b"], "exclude each other"),
        (["get", "user_order_minutes", "ada"], "the keys of user_order_minutes are KEY@START"),
        (["list", "--worker", "foo"], "'foo' is no HOST:PORT"),
        (["list", "--worker", ":6066"], "':6066' is no HOST:PORT"),
        (["list", "--worker", "127.0.0.1:65536"], "'127.0.0.1:65536' is no HOST:PORT"),
    ],
)
def test_a_wrong_call_is_told_in_terms_of_options(
    headrace: Any, args: list[str], told: str
) -> None:
    status, out, err = headrace(*args)
    assert (status, out) == (2, "")
    assert told in " ".join(err.split())


def test_a_scan_without_rows_says_so(headrace: Any) -> None:
    assert headrace("scan", "user_orders", "--prefix", "nobody") == (0, "", "no rows\n")


def test_without_workers_it_says_so(headrace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_APP_ID", "nobody-runs-it")
    status, _, err = headrace("get", "user_orders", "ada")
    assert (status, err) == (
        1,
        "headrace: no worker of application nobody-runs-it runs: start one (headrace worker)\n",
    )


def test_a_kafka_that_never_had_a_group_has_no_workers_either(
    headrace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with EmbeddedKafka(tmp_path) as new:
        monkeypatch.setenv("KAFKA_BROKERS", new.bootstrap)
        status, _, err = headrace("list")
    told = f"headrace: no worker of application {APP_ID} runs: start one (headrace worker)\n"
    assert (status, err) == (1, told)


def test_a_worker_of_another_application_is_not_believed(
    application: Application, headrace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_APP_ID", "another")
    worker = f"127.0.0.1:{application.port}"
    status, _, err = headrace("get", "user_orders", "ada", "--worker", worker)
    assert status == 1
    assert f"what answers at {worker} is a worker of application tables" in err


async def test_watch_prints_what_is_committed_from_now_on(application: Application) -> None:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))},
        "KAFKA_BROKERS": application.kafka.bootstrap,
        "HEADRACE_APP_ID": APP_ID,
    }
    command = [*HEADRACE, "tables", "watch", "user_orders", USERS[1], "--json"]
    with subprocess.Popen(  # noqa: ASYNC220 - it is waited for in threads
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = asyncio.ensure_future(asyncio.to_thread(process.stdout.readline))
        numbers = iter(range(100, 1_000))
        while not line.done():  # when it has begun to watch, only its first line tells
            await application.send(range(number := next(numbers), number + 1))
            await asyncio.wait([line], timeout=0.2)
        process.send_signal(signal.SIGTERM)
        told = json.loads(await line)
        assert await asyncio.to_thread(process.wait, 20) == 0
    assert (told["key"], told["partition"]) == (USERS[1], 1)
    assert told["value"]["orders"] > 3


# -- what may happen -------------------------------------------------------------------------------


async def test_a_key_is_503_while_its_task_is_taken_and_while_its_owner_is_gone(
    application: Application, addresses: list[str], headrace: Any
) -> None:
    """A third worker that cannot open its folder yet; then it is killed."""
    folder = application.folder / "worker-2" / "state" / APP_ID
    held = [Store(folder / f"orders-{number}") for number in range(PARTITIONS)]
    third = application.start_worker()
    address = await application.address(third)

    async def waiting() -> list[str]:
        """Return the tasks that the third worker waits for, once they are all that is missing."""
        answer = ask(addresses[0], row_path("nobody"))
        why = answer.json.get("why", {})
        return list(why) if set(why.values()) == {f"is being taken ({address})"} else []

    task, *others = await until(waiting)
    user = USERS[int(task[-1])]
    for asked in (*addresses, address):
        assert ask(asked, row_path(user)).status == 503
    status, _, err = await asyncio.to_thread(headrace, "get", "user_orders", user)
    assert status == 1
    assert err.startswith(f"headrace: not now: {task} is being taken ({address});")
    assert err.endswith("; try again in a moment\n")
    for store in held:
        store.close()
    await application.shared(*addresses, address)
    for asked in (*addresses, address):
        assert ask(asked, row_path(user)).json["worker"] == address

    third.kill()
    answer = ask(addresses[0], row_path(user))
    gone = f"cannot be read: its owner {address} does not answer"
    assert (answer.status, answer.json["why"]) == (503, dict.fromkeys([task, *others], gone))
    await application.shared(*addresses)
    for asked in addresses:
        assert ask(asked, row_path(user)).json["worker"] in addresses
