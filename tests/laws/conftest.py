"""How hard the laws are tried: `HYPOTHESIS_PROFILE=thorough` tries fifty times as hard."""

import os

from hypothesis import HealthCheck, Phase, settings

_usual = settings(
    deadline=None,
    print_blob=True,
    max_examples=20,
    suppress_health_check=(
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ),
)
settings.register_profile("default", _usual)
settings.register_profile("thorough", _usual, max_examples=1_000)
# Finds and does not shrink: an example costs a tenth of a second or more.
settings.register_profile("hunt", _usual, phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
