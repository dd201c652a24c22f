"""What every suite shares."""

from hypothesis import HealthCheck, settings

# A busy machine is no fault of an example: time is measured in benchmarks, never asserted.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

pytest_plugins = ("tests.proof",)
