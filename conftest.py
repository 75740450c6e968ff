"""For all tests: frames of every kind and length they make are held against the grammar; how fast the machine is decides nothing."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["frame_recorder"]

settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any_machine")
