"""What is compared with is pinned: packages and jars by checksum, without a registry's address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.environments import Environment
from bench.java import MANIFEST, ROOTS
from streams.kafka_jars import read_manifest

PEERS = Path(__file__).parents[3] / "bench" / "peers"
ENVIRONMENTS = pytest.mark.parametrize(
    "environment", [Environment("faust", "faust-streaming"), Environment("quix", "quixstreams")]
)


@ENVIRONMENTS
def test_a_lock_names_packages_versions_and_hashes_and_nothing_else(
    environment: Environment,
) -> None:
    requirement = re.compile(r"[a-z0-9-]+==[\w.!+]+( ; [^\\]+)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = environment.lock.read_text(encoding="utf-8").splitlines()
    assert [li for li in lines if not requirement.fullmatch(li) and not digest.fullmatch(li)] == []


@ENVIRONMENTS
def test_a_lock_holds_what_was_asked_for(environment: Environment) -> None:
    wanted = (PEERS / f"{environment.name}.in").read_text(encoding="utf-8").split()
    locked = environment.lock.read_text(encoding="utf-8")
    for pin in wanted:
        name, _, version = pin.partition("==")
        assert f"\n{name.partition('[')[0]}=={version} " in f"\n{locked}"


@ENVIRONMENTS
def test_another_lock_is_another_environment(environment: Environment) -> None:
    others = {Environment(name, "").folder for name in ("faust", "quix")}
    assert environment.folder in others
    assert len(others) == 2


def test_each_jar_that_was_asked_for_has_its_checksum() -> None:
    assert set(ROOTS) <= set(read_manifest(MANIFEST))
