"""How hard the laws are tried: `HYPOTHESIS_PROFILE=thorough` tries fifty times as hard."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest.register_assert_rewrite("tests.laws.world")

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

settings.register_profile(
    "default", deadline=None, print_blob=True, max_examples=20, suppress_health_check=SLOW
)
settings.register_profile(
    "thorough", deadline=None, print_blob=True, max_examples=1_000, suppress_health_check=SLOW
)
settings.register_profile(
    "hunt",
    settings.get_profile("default"),
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
