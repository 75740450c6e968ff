"""For all tests: every frame they make is held against the grammar; how fast the machine is decides nothing."""

import gc
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["frame_recorder"]

settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any_machine")


def pytest_configure() -> None:
    """A shell that starts this in its background has it ignore interrupts, and so would the programs that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    """What earlier tests left is nobody's garbage: a node collects at each signature, and would go through all of it each time."""
    gc.freeze()
