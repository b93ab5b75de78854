"""What docs/add-a-flow.md shows and says is run: its flows, their tests, refusals, old rows, a group."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedKafka
from streams.child import end_child, start_child
from tests.flows.shown import ROOT, copy_with, new_files, python, shown_in

PAGE = (ROOT / "docs" / "add-a-flow.md").read_text(encoding="utf-8")
SHOWN = shown_in(PAGE)
TESTS = sorted({path for path, _ in SHOWN if path.startswith("tests/")})


def up_to(heading: str) -> str:
    """Return the page up to a heading."""
    before, found, _ = PAGE.partition(f"\n## {heading}\n")
    assert found, heading
    return before


def copied(page: str, folder: Path) -> Path:
    """Return a copy of the project with all that a page shows, its imports in order."""
    shown = shown_in(page)
    copy = copy_with(shown, folder)
    python(copy, "-m", "ruff", "check", "--no-cache", "--select=I", "--fix", *new_files(shown))
    return copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with all that the page shows."""
    return copied(PAGE, tmp_path_factory.mktemp("page") / "project")


@pytest.fixture(scope="module")
def before_the_join(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy with what the page shows before it comes to joins."""
    return copied(up_to("A join"), tmp_path_factory.mktemp("half") / "project")


def told(copy: Path, story: str, *args: object) -> Any:
    """Return the JSON of a story's last line. It finds the names below, and its arguments in `args`."""
    said = python(copy, "-c", PRELUDE + story, *map(str, args))
    return json.loads(said.splitlines()[-1])


PRELUDE = """
import importlib, json, sys
from pathlib import Path
from config.settings import load_settings
from streams.engine.definitions import Flow, Table, Topology
from streams.errors import HeadraceError
from streams.testing import Driver, records_of
from streams.topics import ORDERS, TRACKINGS, USERS
from streams.topology import GROUPS, TOPOLOGY
from tables import definitions as tables

args = sys.argv[1:]

def event(kind, time_ms, **data):
    return {"event_id": f"e-{time_ms}", "event_type": kind, "aggregate_id": "o",
            "timestamp": time_ms, "data": {"order_id": "o-1", "user_id": "ada", **data}}
"""


def test_its_tests_pass(copy: Path) -> None:
    said = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert re.search(r"^13 passed", said, re.MULTILINE), said


def test_its_code_passes_the_lint(copy: Path) -> None:
    new = new_files(SHOWN)
    assert len(new) == 4 * 3 + len(TESTS)
    python(copy, "-m", "ruff", "check", "--no-cache", *new)
    python(copy, "-m", "ruff", "format", "--no-cache", "--check", *new)


def test_the_first_flow_tells_of_orders_with_a_tracking_number(
    before_the_join: Path, tmp_path: Path
) -> None:
    story = """
with Driver(TOPOLOGY, load_settings(data_dir=Path(args[0]))) as driver:
    shipped = [event("order.shipped", 1), event("order.shipped", 2, tracking_no="t-2")]
    driver.pipe(ORDERS, records_of([*shipped, event("order.created", 3, amount=1)]), partition=1)
    (sent,) = driver.read(TRACKINGS)
    print(json.dumps([sent.partition, sent.key.decode(), json.loads(sent.value)]))
"""
    assert told(before_the_join, story, tmp_path) == [
        1,
        "ada",
        {
            "event_id": "e-2:order.trackable",
            "event_type": "order.trackable",
            "aggregate_id": "o-1",
            "timestamp": 2,
            "version": 1,
            "correlation_id": "e-2",
            "causation_id": "e-2",
            "data": {"order_id": "o-1", "user_id": "ada", "tracking_no": "t-2"},
        },
    ]


def test_what_cannot_be_is_refused_with_the_lines_that_it_shows(copy: Path) -> None:
    story = """
from streams.app import create_worker

ENDED = Table("ended", bytes, bytes)

def again(register=lambda app: None, reads=(ORDERS,), **touches):
    return Flow(register, "again", reads, **touches)

def line(flow):
    topology = Topology((*TOPOLOGY.flows, flow), dead_letters="dead-letters")
    try:
        create_worker(load_settings(kafka_brokers="127.0.0.1:9092"), topology)
    except HeadraceError as error:
        return str(error)

print(json.dumps([line(flow) for flow in (
    again(keeps=tables.OPEN_ORDERS),
    again(joins=(tables.OPEN_ORDERS,)),
    again(joins=(tables.PAID_HOURS,), reads=(USERS,)),
    again(joins=(tables.ORDER_SIZES,), reads=(USERS,)),
    again(joins=(ENDED,)),
    again(),
)]))
"""
    table = re.findall(r"^\| .* \| `(.*)` \|$", PAGE, re.MULTILINE)
    assert len(table) == 6
    assert told(copy, story) == table


def test_what_shows_only_at_work_stops_the_worker_with_the_lines_that_it_shows(
    copy: Path, tmp_path: Path
) -> None:
    story = """
from streams.events import OrderTrackable, Tracking

def tell(orders, *parts):
    for order in orders:
        yield OrderTrackable.caused_by(order, Tracking("o", "u", "t", None))

def looks_before_its_loop(orders, users):
    row = users.get("ada")
    return [None for order in orders if row]

def line(number, rule, *parts, **touches):
    def register(app):
        @app.agent(ORDERS)
        async def again(batches):
            async for batch in batches:
                batch.run(rule, batch.all(), *parts)

    flows = (*TOPOLOGY.flows, Flow(register, "again", (ORDERS,), **touches))
    try:
        with Driver(Topology(flows, "dead-letters"), load_settings(data_dir=Path(args[0], number))) as driver:
            driver.pipe(ORDERS, records_of([event("order.paid", 2), event("order.paid", 4)]), settle=False)
            driver.pipe(USERS, records_of([event("user.deleted", 1), event("user.deleted", 3)]))
    except HeadraceError as error:
        offsets = {o.offset for o in driver.kafka.offsets.values()}
        return [str(error), sorted(offsets)]

print(json.dumps([
    line("1", looks_before_its_loop, tables.USERS, joins=(tables.USERS,)),
    line("2", tell),
    line("3", tell, tables.OPEN_ORDERS, emits=TRACKINGS),
]))
"""
    lines = re.findall(r"`(flow again (?:derives|uses)[^`]*)`", " ".join(PAGE.split()))
    assert len(lines) == 3
    assert told(copy, story, tmp_path) == [[line, []] for line in lines]


def test_rows_of_before_are_read_with_the_default(
    copy: Path, before_the_join: Path, tmp_path: Path
) -> None:
    story = """
from streams.engine.failpoints import Step

with Driver(TOPOLOGY, load_settings(data_dir=Path(args[0]))) as driver:
    driver.pipe(ORDERS, records_of([event("order.created", 1, amount=1)]))
    before = driver.changelog(tables.OPEN_ORDERS)["o-1"].decode()
    driver.kill_worker()
    driver.lose_disk()
    outgrown = ("agents.", "tables.definitions", "streams.topology")
    for name in [name for name in sys.modules if name.startswith(outgrown)]:
        del sys.modules[name]
    sys.modules["tables"].__path__ = [args[1]]
    topology = importlib.import_module("streams.topology").TOPOLOGY
    changed = importlib.import_module("tables.definitions").OPEN_ORDERS
    driver.topology = topology
    driver.fail_at(Step.RESTORE_AFTER_RUN)
    driver.start_worker()
    driver.settle()
    row = driver.table(changed)["o-1"]
    print(json.dumps([before, row.placed_at, row.amount, driver.struck]))
"""
    answer = told(before_the_join, story, tmp_path, copy / "tables")
    assert answer == ['{"placed_at":1}', 1, None, ["restore.after_run"]]


def test_a_group_has_an_id_state_and_commits_of_its_own(copy: Path, tmp_path: Path) -> None:
    story = """
from commands.groups import of_group

settings, topology = of_group(load_settings(data_dir=Path(args[0])), "payments")
with Driver(topology, settings) as driver:
    driver.pipe(ORDERS, [*records_of([event("order.paid", 1)]), (b"ada", b"poison")])
    print(json.dumps([
        sorted({group for group, _ in driver.kafka.offsets}),
        [path.name for path in Path(args[0]).iterdir()],
        driver.table(tables.PAID_HOURS),
        sorted({tp.topic for tp, log in driver.kafka.logs.items() if log}),
    ]))
"""
    own = "headrace-payments"
    assert told(copy, story, tmp_path) == [
        [own],
        [own],
        {"ada@0": 1},
        [f"{own}-paid_hours-changelog", "orders", "payments-dead-letters"],
    ]


def test_a_worker_of_the_group_works_on_a_real_kafka(copy: Path, tmp_path: Path) -> None:
    changelog = "headrace-payments-paid_hours-changelog"
    paid = {"order_id": "o-1", "user_id": "ada"}
    event = {"event_id": "e", "event_type": "order.paid", "aggregate_id": "o", "timestamp": 1}
    (tmp_path / "orders").write_text(json.dumps({**event, "data": paid}) + "\n")
    headrace = [sys.executable, "-c", "from commands.main import main; main()"]
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))}
        env = {
            **outside,
            "KAFKA_BROKERS": kafka.bootstrap,
            "HEADRACE_DATA_DIR": str(tmp_path / "state"),
        }

        def run(*command: str) -> str:
            done = subprocess.run(
                [*headrace, *command], cwd=copy, env=env, capture_output=True, check=True, text=True
            )
            return done.stdout

        assert changelog in run("topics", "create")
        run("produce", "orders", str(tmp_path / "orders"))
        command = re.findall(r"^    headrace (worker .*)$", PAGE, re.MULTILINE)[0].split()
        with (tmp_path / "log").open("wb") as log:
            worker = start_child([*headrace, *command], cwd=copy, env=env, stdout=log, stderr=log)
        tail = start_child(
            [*headrace, "topics", "tail", changelog, "--follow", "--json"],
            cwd=copy, env=env, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert tail.stdout is not None
        with tail.stdout:
            row = json.loads(tail.stdout.readline())
            end_child(tail)
        assert (row["key"], row["value"]) == ("ada@0", 1)
        assert end_child(worker) == 0, (tmp_path / "log").read_text()
        assert "1 rows equal" in run("verify", "--group", "payments")


def test_a_worker_knows_the_group_by_its_name(copy: Path) -> None:
    story = """
from commands.main import run

statuses = [run(["worker", "--group", name, *more]) for name, *more in (["payments", "--help"], ["none"])]
print(json.dumps(statuses))
"""
    assert "headrace worker --group payments" in PAGE
    assert told(copy, story) == [0, 2]
