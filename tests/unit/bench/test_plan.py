"""Who is given what: inputs vary along one axis at a time, and slow systems get less."""

from __future__ import annotations

import pytest

from bench.plan import FULL, PARTS, QUICK, Plan
from bench.systems.all import LABELS
from commands import bench

PLANS = pytest.mark.parametrize("plan", [FULL, QUICK], ids=["full", "quick"])


@PLANS
def test_a_point_differs_from_the_base_on_its_axis_alone(plan: Plan) -> None:
    for axis, value, given, workers in plan.points():
        base = plan.curve_input
        assert workers == (value if axis == "workers" else 1)
        for field in ("users", "partitions", "event_bytes"):
            assert getattr(given, field) == (value if axis == field else getattr(base, field))
        assert given.events >= base.events


@PLANS
def test_each_user_of_a_curve_may_have_an_order(plan: Plan) -> None:
    assert all(given.events >= given.users for _, _, given, _ in plan.points())


def test_slow_systems_get_fewer_orders_of_the_same_kind() -> None:
    given = FULL.input_of(LABELS["faust-alo"], FULL.input)
    assert 2_000 <= given.events < FULL.input.events / 10
    assert (given.users, given.partitions) == (FULL.input.users, FULL.input.partitions)
    assert FULL.input_of(LABELS["headrace-eo"], FULL.input) == FULL.input


def test_the_command_offers_the_parts_that_there_are() -> None:
    assert bench._PARTS == PARTS
