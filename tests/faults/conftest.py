"""Fixtures for tests of worker processes.

HEADRACE_TEST_SEEDS is how many seeds each seeded test runs with, HEADRACE_TEST_SEED the first of them:
a random one, if it is not set. `make faults SEEDS=20` writes what came of them to a report.
"""

import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from streams.broker import EmbeddedKafka
from tests.faults.proxy import Proxy, proxied_kafka
from tests.faults.trial import Trial

SEEDS = int(os.environ.get("HEADRACE_TEST_SEEDS", "1"))
# In the environment: processes that share the tests of one run have the same.
FIRST_SEED = int(os.environ.setdefault("HEADRACE_TEST_SEED", str(random.randrange(1_000_000))))
REPORT = os.environ.get("HEADRACE_FAULTS_REPORT", "")

StartTrial: TypeAlias = Callable[..., AbstractAsyncContextManager[Trial]]
StartProxiedTrial: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Trial, Proxy]]]


def pytest_report_header() -> str:
    """Say which seeds the run has: a failure prints its own as well."""
    return f"faults: HEADRACE_TEST_SEED={FIRST_SEED} HEADRACE_TEST_SEEDS={SEEDS}"


def is_long(seed: int) -> bool:
    """Tell whether a trial is one of the long form: of several seeds the first one's."""
    return SEEDS > 1 and seed == FIRST_SEED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each fault meet the first seed, then each the second: a run that is broken off tried all."""
    if SEEDS > 1:
        items.sort(key=_seed_of)


def _seed_of(item: pytest.Item) -> int:
    called = getattr(item, "callspec", None)
    return 0 if called is None else int(called.params.get("seed", 0))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take a seed with each of them."""
    if "seed" in metafunc.fixturenames:
        seeds = range(FIRST_SEED, FIRST_SEED + SEEDS)
        metafunc.parametrize("seed", seeds, ids=[f"seed{n}" for n in range(SEEDS)])


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker for one module's tests alone: workers read and write topics of fixed names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def start_trial(request: pytest.FixtureRequest, tmp_path: Path) -> StartTrial:
    """Return what starts a trial: `async with start_trial(seed, brokers=1, **options) as trial`.

    It has a Kafka of its own, unless one is given as `kafka`.
    """

    @asynccontextmanager
    async def start(
        seed: int,
        *,
        brokers: int = 1,
        kafka: EmbeddedKafka | None = None,
        **options: Any,
    ) -> AsyncIterator[Trial]:
        if kafka is None:
            with EmbeddedKafka(tmp_path / "kafka", brokers=brokers) as own:
                async with start(seed, kafka=own, **options) as trial:
                    yield trial
            return
        trial = Trial(tmp_path, kafka, seed, **options)
        try:
            async with trial:
                yield trial
        except BaseException as error:
            _report(request.node.originalname, trial, f"{error!r:.200}")
            raise
        _report(request.node.originalname, trial, None)

    return start


@pytest.fixture
def start_proxied_trial(start_trial: StartTrial, tmp_path: Path) -> StartProxiedTrial:
    """Return what starts a trial and a proxy: workers that are told its address go through it."""

    @asynccontextmanager
    async def start(
        seed: int, *, properties: Mapping[str, str] = {}, **options: Any
    ) -> AsyncIterator[tuple[Trial, Proxy]]:
        async with (
            proxied_kafka(tmp_path / "kafka", properties) as (kafka, network),
            start_trial(seed, kafka=kafka, **options) as trial,
        ):
            yield trial, network

    return start


def _report(test: str, trial: Trial, error: str | None) -> None:
    """Add what a trial went through to the report, if one is wanted."""
    if REPORT:
        line = {
            "test": test,
            "seed": trial.seed,
            "faults": trial.faults,
            "records": trial.records,
            "error": error,
        }
        with Path(REPORT).open("a", encoding="utf-8") as report:
            report.write(json.dumps(line) + "\n")
