"""Profiles: few examples, always the same; or, with `long.py`, many, new."""

from hypothesis import HealthCheck, settings

_COMMON = dict(
  deadline=None, suppress_health_check=list(HealthCheck), database=None
)
settings.register_profile('quick', max_examples=30, derandomize=True, **_COMMON)
settings.register_profile('long', max_examples=500, print_blob=True, **_COMMON)
settings.load_profile('quick')
