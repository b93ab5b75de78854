"""Every key through every worker, over HTTP; and what is said while somebody cannot answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from streams.engine.cluster import Owner
from streams.engine.records import Record, TopicPartition
from tests.flows.stories import NOW_MS, order, orders
from tests.waiting import until, until_true
from tests.web.running import PARTITIONS, Answer, Application, application

# One user a partition. What paths, queries and HTML could trip over.
USERS = ("ada", "a/b?c=d&e#f", "<b>é%2F</b> \U0001f600\n", "..")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    async with application(tmp_path) as running:
        for partition, user in enumerate(USERS):
            await running.run(partition, orders(range(partition + 1), user=user))
        yield running


def addresses(app: Application) -> list[str]:
    return [worker.web.address for worker in app.workers if worker.web]


def path(user: str, table: str = "user_orders") -> str:
    key = "%2E%2E" if user == ".." else quote(user, safe="")
    return f"/api/tables/{table}/{key}"


async def found(app: Application, asked: str, user: str) -> Answer:
    """Return the answer once there is a row."""

    async def answer() -> Answer | None:
        answer = await app.ask(asked, path(user))
        return answer if answer.status == 200 else None

    answered = await until(answer)
    assert answered is not None
    return answered


async def test_every_key_is_reached_through_every_worker(app: Application) -> None:
    for asked in addresses(app):
        for partition, user in enumerate(USERS):
            answer = await app.ask(asked, path(user))
            task = f"orders-{partition}"
            assert (answer.status, answer.json) == (
                200,
                {
                    "table": "user_orders",
                    "key": user,
                    "value": {
                        "orders": partition + 1,
                        "amount": 10.0 * (partition + 1),
                        "first_order_at": NOW_MS,
                        "last_order_at": NOW_MS + partition,
                        "vip": False,
                    },
                    "worker": app.owner(task),
                    "task": task,
                    "sources": {"orders": partition + 1},
                },
            )


async def test_a_key_may_be_empty(app: Application) -> None:
    await app.run(0, [order(1, user="")])
    for asked in addresses(app):
        answer = await app.ask(asked, "/api/tables/user_orders/")
        assert (answer.status, answer.json["key"], answer.json["task"]) == (200, "", "orders-0")


async def test_a_key_that_nobody_has_is_404_once_all_have_said_so(app: Application) -> None:
    for asked in addresses(app):
        answer = await app.ask(asked, path("nobody"))
        assert answer.status == 404
        assert answer.json["error"] == "table user_orders has no row with the key 'nobody'"
        assert answer.json["answered"] == [
            {"task": task, "worker": app.owner(task), "sources": {"orders": n + 1}}
            for n, task in enumerate(sorted(app.tasks()))
        ]


async def test_pages_and_counts_are_of_the_whole_application(app: Application) -> None:
    for asked in addresses(app):
        first = (await app.ask(asked, "/api/tables/user_orders?limit=3")).json
        assert [row["key"] for row in first["rows"]] == sorted(USERS)[:3]
        rest = (await app.ask(asked, f"/api/tables/user_orders?after={quote(first['next'])}")).json
        assert [row["key"] for row in rest["rows"]] == sorted(USERS)[3:]
        assert rest["next"] is None
        begins = (await app.ask(asked, "/api/tables/user_orders?prefix=a")).json
        assert [row["key"] for row in begins["rows"]] == ["a/b?c=d&e#f", "ada"]
        counted = (await app.ask(asked, "/api/tables/user_orders?count=true")).json
        assert counted["count"] == len(USERS)
        assert [each["task"] for each in counted["answered"]] == sorted(app.tasks())


async def test_the_windows_of_a_key_are_found(app: Application) -> None:
    key, minute_ms = USERS[1], 60_000
    for asked in addresses(app):
        query = f"/api/tables/user_order_minutes?key={quote(key, safe='')}"
        found = (await app.ask(asked, query)).json["rows"]
        assert [row["key"] for row in found] == [f"{key}@{NOW_MS}"]
        assert found[0]["value"] == {"orders": 2, "amount": 20.0}
        here = await app.ask(asked, f"{query}&from={NOW_MS}&to={NOW_MS + minute_ms}")
        assert here.json["rows"] == found
        later = await app.ask(asked, f"{query}&from={NOW_MS + 1}")
        assert (later.status, later.json["rows"]) == (200, [])
        one = await app.ask(asked, path(f"{key}@{NOW_MS}", "user_order_minutes"))
        assert one.json["value"] == found[0]["value"]


async def test_a_key_whose_owner_was_killed_is_503_and_comes_back_after_the_take_over(
    app: Application,
) -> None:
    asked, victim = addresses(app)
    lost = [n for n in range(PARTITIONS) if app.owner(f"orders-{n}") == victim]
    await app.kill(victim)
    for partition in lost:
        answer = await app.ask(asked, path(USERS[partition]))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        told = f"cannot be read: its owner {victim} does not answer"
        assert answer.json["why"] == {f"orders-{n}": told for n in lost}
        assert f"orders-{partition} {told}" in answer.json["error"]
    assert (await app.ask(asked, path("nobody"))).status == 503
    assert (await app.ask(asked, "/api/tables/user_orders")).status == 503
    assert (await app.ask(asked, "/api/tables/user_orders?count=true")).status == 503
    told = (await app.ask(asked, "/api/tables")).json["workers"][1]
    assert (told["worker"], told["why"]) == (victim, "does not answer")
    assert [task["state"] for task in told["tasks"]] == ["unknown"] * len(lost)

    await app.notice()
    for partition in lost:
        answer = await found(app, asked, USERS[partition])
        assert answer.json["value"]["orders"] == partition + 1
        assert answer.json["worker"] == asked


async def test_a_key_is_503_with_the_reason_while_its_task_is_restored(
    app: Application,
) -> None:
    restores = asyncio.Event()
    newcomer = await app.start(restores=restores)  # an empty folder: everything is restored
    assert newcomer not in {"", *addresses(app)[:2]}
    moved = [n for n in range(PARTITIONS) if app.owner(f"orders-{n}") == newcomer]
    assert moved

    async def is_restoring() -> Answer | None:
        answer = await app.ask(addresses(app)[0], path(USERS[moved[0]]))
        return answer if "is restoring" in answer.text else None

    await until(is_restoring)
    for asked in addresses(app):
        answer = await app.ask(asked, path(USERS[moved[0]]))
        assert answer.status == 503
        assert answer.json["why"][f"orders-{moved[0]}"] == f"is restoring its state ({newcomer})"
        view = (await app.ask(asked, "/api/tables")).json["workers"]
        states = {each["task"]: each["state"] for worker in view for each in worker["tasks"]}
        assert states[f"orders-{moved[0]}"] == "restoring"
    restores.set()
    await app.settled()
    for asked in addresses(app):
        answer = await app.ask(asked, path(USERS[moved[0]]))
        assert (answer.status, answer.json["worker"]) == (200, newcomer)


async def test_what_is_forwarded_is_answered_from_own_tasks_and_not_forwarded_on(
    app: Application,
) -> None:
    asked = addresses(app)[0]
    for query in (path("nobody"), "/api/tables/user_orders", "/api/tables/user_orders?count=true"):
        answer = await app.ask(asked, query, **{"Headrace-Forwarded": "1"})
        assert answer.status == 200
        tasks = {part["task"] for part in answer.json}
        assert tasks == {t for t in app.tasks() if app.owner(t) == asked}
    view = await app.ask(asked, "/api/tables", **{"Headrace-Forwarded": "1"})
    assert view.json["worker"] == asked


async def test_an_address_that_another_application_has_now_is_not_believed(
    app: Application,
) -> None:
    asked, other = addresses(app)
    engine = app.workers[0].engine
    assert engine is not None
    stranger = app.workers[1].web
    assert stranger is not None
    stranger._application = "another"
    answer = await app.ask(asked, path("nobody"))
    assert answer.status == 503
    assert "something else answers at its address" in answer.json["error"]
    assert other in answer.json["error"]


async def test_a_worker_whose_leader_tells_nothing_answers_for_its_own_tasks(
    app: Application,
) -> None:
    engine = app.workers[0].engine
    assert engine is not None
    assert engine._grouping is not None
    engine._grouping.hear([])
    asked = addresses(app)[0]
    mine = next(n for n in range(PARTITIONS) if app.owner(f"orders-{n}") == asked)
    assert (await app.ask(asked, path(USERS[mine]))).status == 200
    answer = await app.ask(asked, path("nobody"))
    assert answer.status == 503
    assert "has no owner that is known yet" in answer.json["error"]
    engine._grouping.hear([Owner("", [f"orders-{n}" for n in range(PARTITIONS)])])
    assert "without a web view" in (await app.ask(asked, path("nobody"))).json["error"]


async def test_only_committed_rows_are_seen(app: Application) -> None:
    asked = addresses(app)[0]
    held = asyncio.Event()
    # From here on Kafka does not answer: the batch is processed, and its commit does not end.
    task = app.tasks()["orders-0"]
    producer = task.producer
    ending = producer.commit

    async def commit() -> None:
        await held.wait()
        await ending()

    producer.commit = commit
    for key, value in orders(range(10, 13), user="ada"):
        app.kafka.append(TopicPartition("orders", 0), Record(key, value), NOW_MS)
    await until_true(lambda: task.commit is not None)
    answer = (await app.ask(asked, path("ada"))).json
    assert (answer["value"]["orders"], answer["sources"]) == (1, {"orders": 1})
    held.set()

    async def committed() -> bool:
        found = (await app.ask(asked, path("ada"))).json
        return bool(found["value"]["orders"] == 4 and found["sources"] == {"orders": 4})

    await until(committed)
