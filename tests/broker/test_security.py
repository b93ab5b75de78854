"""Kafka with TLS, logins and ACLs: who is let in works, who is not is told why, and no password shows."""

import asyncio
import contextlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from streams.broker import EmbeddedKafka
from streams.child import end_child, start_child
from streams.engine.admin import TopicSpec, ensure_topics, partition_counts
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.records import Record
from streams.errors import AccessDeniedError, BrokerRefusedError
from streams.kafka_node import free_ports
from tests.broker.groups import caught_up
from tests.broker.running import HEADRACE, environment, files_with, headrace, process_list
from tests.broker.secured import ADMIN, SESAME, SecuredKafka
from tests.faults.workers import WorkerProcess
from tests.waiting import until, until_true

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
ADA = {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "ada"}
NO_LOGIN = dict.fromkeys(
    ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"), None
)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    secured = SecuredKafka(tmp_path_factory.mktemp("secured"))
    with secured.kafka:
        yield secured


@pytest.fixture(autouse=True)
async def _connections_are_closed() -> AsyncIterator[None]:
    """Wait until those are gone that were refused: over TLS, aiokafka leaves them to close alone."""
    yield
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    await until_true(lambda: len(selector.get_map()) == 1)  # the loop's own


@pytest.fixture
async def admin(secured: SecuredKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """Return somebody who may do everything, on a cluster without topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=secured.kafka.bootstrap)
    await admin.start()

    async def none_left() -> bool:
        names = [name for name in await admin.list_topics() if not name.startswith("__")]
        if names:
            await admin.delete_topics(names)
        return not names

    await until(none_left)
    yield admin
    await admin.close()


# -- who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "changed"),
    [
        pytest.param("LOGIN", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}, id="SCRAM-SHA-512"),
        pytest.param("LOGIN", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, id="SCRAM-SHA-256"),
        pytest.param("LOGIN", ADA, id="PLAIN"),
        pytest.param("OPEN", {}, id="SCRAM without TLS"),
    ],
)
async def test_each_mechanism_lets_in(
    secured: SecuredKafka, listener: str, changed: dict[str, object]
) -> None:
    await partition_counts(secured.options(listener, **changed), ["orders"], timeout_s=10)


async def test_a_clients_certificate_lets_in(secured: SecuredKafka) -> None:
    both = secured.certificate("worker", "worker.example")
    options = secured.options("MUTUAL", kafka_ssl_certfile=both)
    await partition_counts(options, ["orders"], timeout_s=10)


# -- who is not ---------------------------------------------------------------------------------

WRONG = "wrong-sesame"
REFUSALS = {
    "wrong authority": ("LOGIN", {"kafka_ssl_cafile": "stranger"}, "not trusted", "SSL_CAFILE"),
    "no authority": ("LOGIN", {"kafka_ssl_cafile": None}, "not trusted", "KAFKA_SSL_CAFILE"),
    "wrong name": ("RENAMED", {}, "another name", "KAFKA_BROKERS"),
    "expired": ("EXPIRED", {}, "has expired", "certificate"),
    "no certificate": ("MUTUAL", {}, "wants a client's certificate", "KAFKA_SSL_CERTFILE"),
    "unknown certificate": (
        "MUTUAL",
        {"kafka_ssl_certfile": "stranger"},
        "refuses our side of TLS",
        "KAFKA_SSL_CERTFILE",
    ),
    "wrong password": (
        "LOGIN",
        {"kafka_sasl_password": WRONG},
        f"refuses the login of '{ADMIN}' by SCRAM-SHA-512",
        "KAFKA_SASL_PASSWORD",
    ),
    "wrong password, PLAIN": (
        "LOGIN",
        {**ADA, "kafka_sasl_password": WRONG},
        "refuses the login of 'ada' by PLAIN",
        "KAFKA_SASL_PASSWORD",
    ),
    "unknown user": (
        "LOGIN",
        {"kafka_sasl_username": "eve"},
        "refuses the login of 'eve'",
        "KAFKA_SASL_USERNAME",
    ),
    "mechanism not offered": (
        "SCRAM",
        {"kafka_sasl_mechanism": "PLAIN"},
        "does not offer KAFKA_SASL_MECHANISM=PLAIN",
        "must be SCRAM-SHA-512",
    ),
    "plaintext to TLS": (
        "EXPIRED",
        {"kafka_security_protocol": "PLAINTEXT", "kafka_ssl_cafile": None},
        "speaks TLS",
        "KAFKA_SECURITY_PROTOCOL=PLAINTEXT must be SSL or SASL_SSL",
    ),
    "login in plaintext to TLS": (
        "LOGIN",
        {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": None},
        "speaks TLS",
        "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT must be SSL or SASL_SSL",
    ),
    "TLS to plaintext": (
        "OPEN",
        {"kafka_security_protocol": "SASL_SSL"},
        "does not speak TLS",
        "KAFKA_SECURITY_PROTOCOL=SASL_SSL must be PLAINTEXT or SASL_PLAINTEXT",
    ),
    "no login": (
        "LOGIN",
        {"kafka_security_protocol": "SSL", **NO_LOGIN},
        "wants a login",
        "KAFKA_SECURITY_PROTOCOL=SSL must be SASL_SSL there, and KAFKA_SASL_MECHANISM PLAIN or ",
    ),
    "no login in plaintext": (
        "OPEN",
        {"kafka_security_protocol": "PLAINTEXT", **NO_LOGIN},
        "wants a login",
        "must be SASL_PLAINTEXT there, and KAFKA_SASL_MECHANISM SCRAM-SHA-512",
    ),
}


@pytest.mark.parametrize(("listener", "changed", "why", "setting"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_and_names_the_setting(
    secured: SecuredKafka, listener: str, changed: dict[str, object], why: str, setting: str
) -> None:
    strangers = {"kafka_ssl_cafile": secured.stranger_ca, "kafka_ssl_certfile": secured.stranger}
    known = {n: strangers[n] if v == "stranger" else v for n, v in changed.items()}
    with pytest.raises(BrokerRefusedError) as refusal:
        await partition_counts(secured.options(listener, **known), ["orders"], timeout_s=30)
    line = str(refusal.value)
    assert line.startswith(f"the broker at {secured.kafka.bootstrap_of(listener)} ")
    assert why in line
    assert setting in line
    assert WRONG not in line
    assert SESAME not in line


async def test_a_login_that_nobody_asks_for_is_refused(secured: SecuredKafka) -> None:
    options = secured.options("OPEN", kafka_brokers=secured.kafka.bootstrap)
    with pytest.raises(BrokerRefusedError, match=r"takes no login: .* must be PLAINTEXT"):
        await partition_counts(options, ["orders"], timeout_s=30)


async def test_a_broker_that_is_not_there_beside_one_that_refuses_changes_nothing(
    secured: SecuredKafka,
) -> None:
    both = f"127.0.0.1:1,{secured.kafka.bootstrap_of('LOGIN')}"
    options = secured.options("LOGIN", kafka_brokers=both, kafka_sasl_password=WRONG)
    with pytest.raises(BrokerRefusedError, match="refuses the login"):
        await partition_counts(options, ["orders"], timeout_s=30)


async def test_a_broker_that_sends_us_where_nobody_is_found_is_told(tmp_path: Path) -> None:
    [port] = free_ports([0])
    elsewhere = {"advertised.listeners": f"PLAINTEXT://kafka.invalid:{port}"}
    with EmbeddedKafka(tmp_path, port=port, properties=elsewhere) as kafka:
        options = {"bootstrap_servers": kafka.bootstrap}
        with pytest.raises(
            BrokerRefusedError, match=f"sends its clients on to kafka.invalid:{port}"
        ):
            await partition_counts(options, ["orders"], timeout_s=30)


@pytest.mark.parametrize("command", ["worker", "verify"])
def test_a_refusal_ends_a_command_with_one_line_and_status_1(
    secured: SecuredKafka, tmp_path: Path, command: str
) -> None:
    settings = secured.settings("LOGIN", kafka_sasl_password=WRONG)
    ended = headrace(command, folder=tmp_path, **settings)
    assert ended.returncode == 1
    *log, line = ended.stderr.splitlines()
    assert line.startswith("headrace: the broker at 127.0.0.1:")
    assert "refuses the login" in line
    assert [entry for entry in log if '"level": "info"' not in entry] == []
    assert WRONG not in ended.stdout + ended.stderr


# -- what a user may --------------------------------------------------------------------------

TOPIC = 2
RESOURCES = {"--topic": TOPIC, "--group": 3, "--transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5}
DESCRIBE = 8
LITERAL, PREFIXED = 3, 4


def documented(*, without: str = "nothing") -> list[tuple[int, str, int, int]]:
    """Return the ACLs of the document, as (type, name, pattern, operation)."""
    commands = re.findall(r"^acl (--.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for command in commands:
        if without in command:
            continue
        words = shlex.split(command)
        options = list(zip(words[::2], words[1::2], strict=True))
        pattern = PREFIXED if ("--resource-pattern-type", "prefixed") in options else LITERAL
        operations = [OPERATIONS[value] for name, value in options if name == "--operation"]
        for name, value in options:
            if name in RESOURCES:
                found += [(RESOURCES[name], value, pattern, each) for each in operations]
    return found


async def grant(
    admin: AIOKafkaAdminClient, user: str, acls: list[tuple[int, str, int, int]]
) -> None:
    for kind, name, pattern, operation in acls:
        request = CreateAclsRequest(kind, name, pattern, f"User:{user}", "*", operation, 3)
        answer = await admin._send_request(request)
        assert [code for code, _ in answer.creation_responses] == [0]


async def test_the_documented_acls_are_all_that_a_worker_needs(
    secured: SecuredKafka, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    bootstrap = secured.kafka.bootstrap
    await grant(admin, "headrace", documented())
    await grant(admin, "no-create", documented(without="Create"))
    maker = secured.settings("LOGIN", kafka_sasl_username="headrace")
    worker = WorkerProcess(
        tmp_path / "maker", secured.kafka.bootstrap_of("LOGIN"), "headrace", **maker
    )
    worker.start(verbose=True)

    async def topics_are_made() -> bool:
        assert worker.process.poll() is None, worker.said()
        return "dead-letters" in await admin.list_topics()

    await until(topics_are_made)
    await worked(bootstrap, worker)
    verified = headrace(
        "verify", folder=tmp_path, **maker, headrace_data_dir=worker.folder / "state"
    )
    assert (verified.returncode, verified.stderr) == (0, "")

    # Somebody else, by another mechanism, restores all of it and goes on, without making topics.
    maintainer = secured.settings("LOGIN", **ADA | {"kafka_sasl_username": "no-create"})
    other = WorkerProcess(
        tmp_path / "other",
        secured.kafka.bootstrap_of("LOGIN"),
        "headrace",
        **maintainer,
        kafka_auto_create_topics=False,
    )
    other.start(verbose=True)
    await worked(bootstrap, other)
    assert '"sasl_username": "headrace"' in worker.said()
    assert SESAME not in worker.said() + other.said()
    assert files_with(SESAME, tmp_path) == []


async def send_orders(bootstrap: str, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(count):
            user, order = f"user-{number % 50}", f"order-{number}"
            event = {
                "event_id": f"e-{number}",
                "event_type": "order.created",
                "aggregate_id": order,
                "timestamp": time.time_ns() // 1_000_000,
                "data": {"order_id": order, "user_id": user, "amount": 5000 - number},
            }
            await producer.send("orders", json.dumps(event).encode(), user.encode())


async def worked(bootstrap: str, worker: WorkerProcess) -> None:
    """Have a worker process some orders; end it."""
    await send_orders(bootstrap, 500)
    await caught_up({"bootstrap_servers": bootstrap}, "headrace", ["orders"], 4)
    assert worker.end() == 0, worker.said()


@pytest.mark.parametrize(
    ("user", "without", "denied"),
    [
        ("no-group", "--group", "GroupAuthorizationFailed"),
        ("no-transactions", "--transactional-id", "TransactionalIdAuthorizationFailed"),
        ("no-output", "Write --topic high-value-orders", "topic high-value-orders exists"),
        ("no-write", "Write --topic high-value-orders", "TopicAuthorizationFailed"),
    ],
)
async def test_an_acl_that_is_missing_stops_a_worker_with_one_line(  # noqa: PLR0917 - parameters
    secured: SecuredKafka,
    admin: AIOKafkaAdminClient,
    tmp_path: Path,
    user: str,
    without: str,
    denied: str,
) -> None:
    await grant(admin, user, documented(without=without))
    if user == "no-write":
        await grant(admin, user, [(TOPIC, "*", LITERAL, DESCRIBE)])
    topics = (
        "orders",
        "users",
        "high-value-orders",
        "vip-upgrades",
        "enriched-orders",
        "dead-letters",
    )
    specs = [TopicSpec(name, 4, {}) for name in topics]
    await ensure_topics({"bootstrap_servers": secured.kafka.bootstrap}, specs, replication_factor=1)
    await send_orders(secured.kafka.bootstrap, 500)
    settings = secured.settings("LOGIN", **ADA | {"kafka_sasl_username": user})
    ended = await asyncio.to_thread(headrace, "worker", folder=tmp_path, **settings)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("headrace: Kafka denies this user what it needs")
    assert denied in line
    assert "Traceback" not in ended.stderr


async def test_a_denial_is_told_by_whatever_fails_with_it(
    secured: SecuredKafka, admin: AIOKafkaAdminClient
) -> None:
    """Sends of several topics fail one by one: which of them is heard first must make no difference."""
    user = "no-write"
    await grant(admin, user, documented(without="Write --topic high-value-orders"))
    await grant(admin, user, [(TOPIC, "*", LITERAL, DESCRIBE)])
    granted, denied = "headrace-users-changelog", "high-value-orders"
    specs = [TopicSpec(name, 1, {}) for name in (granted, denied)]
    await ensure_topics({"bootstrap_servers": secured.kafka.bootstrap}, specs, replication_factor=1)
    client = secured.options("LOGIN", **ADA | {"kafka_sasl_username": user})
    cluster = KafkaCluster(KafkaOptions(client=client, group="headrace"))
    producer = cluster.producer("headrace-orders-0")
    await producer.start()
    await producer.begin()
    await producer.send(0, {granted: [Record(b"key", b"1")]})
    for topic in (denied, granted, denied):
        with pytest.raises(AccessDeniedError, match="TopicAuthorizationFailed"):
            await producer.send(0, {topic: [Record(b"key", b"{}")]})
    for step in (producer.begin, producer.commit):
        with pytest.raises(AccessDeniedError, match="TopicAuthorizationFailed"):
            await step()
    await producer.close()


# -- the password ------------------------------------------------------------------------------


@pytest.mark.usefixtures("admin")
async def test_the_demo_proves_itself_over_tls_and_shows_no_password(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    settings = environment(secured.settings("LOGIN")) | {"TMPDIR": str(tmp_path)}
    said = tmp_path / "said"
    with said.open("wb") as file:
        demo = start_child(
            [HEADRACE, "demo", "--seconds", "2", "--verbose"],
            env=settings,
            cwd=tmp_path,
            stdout=file,
            stderr=file,
        )
    shown: list[object] = []
    workers = 0
    try:
        while demo.poll() is None:
            processes = process_list()
            workers = max(workers, sum(process.parent == demo.pid for process in processes))
            shown += [process for process in processes if SESAME.encode() in process.command_line]
            shown += files_with(SESAME, tmp_path)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(demo.wait, 0.5)
    finally:
        end_child(demo)
    text = said.read_text(encoding="utf-8")
    assert demo.returncode == 0, text
    assert "equals the plain-Python oracle" in text
    assert workers == 2
    assert shown == []


@pytest.mark.parametrize("command", ["worker", "demo", "verify"])
def test_no_help_shows_what_is_set(secured: SecuredKafka, tmp_path: Path, command: str) -> None:
    helped = headrace(command, "--help", folder=tmp_path, **secured.settings("LOGIN"))
    assert "Usage:" in helped.stdout
    assert SESAME not in helped.stdout + helped.stderr


def test_a_login_within_the_brokers_addresses_is_refused_unseen(tmp_path: Path) -> None:
    url = f"kafka://ada:{SESAME}@kafka-1:9092"
    ended = headrace("worker", "--verbose", folder=tmp_path, kafka_brokers=url)
    assert ended.returncode == 1
    assert "KAFKA_BROKERS" in ended.stderr
    assert SESAME not in ended.stderr
