"""For all tests: every frame they make is held against the grammar; how fast the machine is decides nothing."""

import gc

from hypothesis import HealthCheck, settings

pytest_plugins = ["frame_recorder"]

settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any_machine")


def pytest_runtest_setup() -> None:
    """What earlier tests left is nobody's garbage: a node collects at each signature, and would go through all of it each time."""
    gc.freeze()
