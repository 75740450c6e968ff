"""The chosen target, proven once before the first test; and what whole-system tests share: images, and makers of towns."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.targets import DEFAULT, TARGETS, find_target
from bench.targets.target import CAPABILITIES, LINE, MODELS, PROCESSES, BenchBrokenError, Target
from lamppost_protocol.es256_host import public_key
from lamppost_tools.kit.seal import Kit, open_kit
from street.lone_node import image_files
from street.node_device import Image, NodeDevice, build_target_image, runner_on
from street.street_node import NodeSpec, Place, build_image, missing_programs, program_on
from street.town import Town
from street.workbench import KIT_KEY, Workbench, make_kit

HERE = Path(__file__).parent
TEST_S = 120  # of the unix port, pyproject.toml's `timeout`
_CHOSEN: pytest.StashKey[Target] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target",
        metavar="NAME[:ARGUMENT]",
        help=f"what the hardware tests run on, and only they: {', '.join(TARGETS)}; without it: {DEFAULT}, and every other test too",
    )


def pytest_configure(config: pytest.Config) -> None:
    named = config.getoption("--target")
    try:
        chosen = config.stash[_CHOSEN] = find_target(named or DEFAULT)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if named and (missing := chosen.missing()):
        raise pytest.UsageError(f"{named} cannot run here: {missing}")
    # Ended from outside it must end its devices too: one left behind opens whatever terminal gets its line's number next.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a target given, only what is about targets, the soak of it only by `-m`; everything in the target's own time."""
    chosen = config.stash[_CHOSEN]
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        marker = item.get_closest_marker("needs")
        unknown = set(marker.args if marker else ()) - CAPABILITIES
        if unknown:
            raise pytest.UsageError(f"{item.nodeid} needs {', '.join(sorted(unknown))}, which no target can have")
        if chosen.slowness > 1:
            own = item.get_closest_marker("timeout")
            item.add_marker(pytest.mark.timeout((own.args[0] if own else TEST_S) * chosen.slowness), append=False)
    if config.getoption("--target"):
        is_soak_asked = bool(config.getoption("markexpr"))
        others = {
            item
            for item in ours
            if ("target" not in getattr(item, "fixturenames", ()) and not item.get_closest_marker("needs"))
            or (item.get_closest_marker("soak") and not is_soak_asked)
        }
        config.hook.pytest_deselected(items=list(others))
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The chosen target. It starts once here: when it does not, every test fails at once with that cause."""
    chosen = request.config.stash[_CHOSEN]
    require(request.config, chosen.missing())
    print(f"{chosen.name}: {chosen.prove(tmp_path_factory.mktemp('prove'))}; {chosen.image()}")
    return chosen


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("needs")
    if marker:
        demand(request.config.stash[_CHOSEN], *marker.args)


def require(config: pytest.Config, missing: str | None) -> None:
    """Without what is missing: skip, or fail where the target was named, for who names it wants to know."""
    if missing and not config.getoption("--target"):
        pytest.skip(missing)
    if missing:
        raise BenchBrokenError(f"{config.stash[_CHOSEN].name} cannot run here: {missing}")


def demand(chosen: Target, *capabilities: str) -> None:
    """Skip unless the target has all of them, naming what it lacks."""
    lacking = sorted(set(capabilities) - chosen.capabilities)
    if lacking:
        pytest.skip(f"{chosen.name} has no {', '.join(lacking)}")


def missing_for_bytecode() -> str | None:
    """What is missing to compile the firmware, and what to do about that, or None."""
    missing = missing_programs()
    return f"{missing}: pip install 'lamppost[demo]', or set MICROPYTHON and MPY_CROSS" if missing else None


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, target: Target) -> Path:
    """The firmware of this tree as bytecode, beside the other build products, for nodes that are processes of this machine."""
    demand(target, PROCESSES)
    require(request.config, missing_for_bytecode())
    return build_image(Path(__file__).resolve().parents[1] / "build/test-image")


@pytest.fixture(scope="session")
def target_image(request: pytest.FixtureRequest, target: Target) -> Image:
    """The firmware of this tree as bytecode, for devices of the target, beside the other build products."""
    require(request.config, missing_for_bytecode())
    return build_target_image(HERE.parent / "build" / "target-image", target)


@pytest.fixture(scope="session")
def lock_step_image(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """The firmware of this tree as bytecode with the lock-step `machine`, by path on the device, for nodes in virtual time."""
    require(request.config, missing_for_bytecode())
    return image_files(HERE.parent / "build" / "lock-step")


@pytest.fixture
def seed() -> int:
    """A fresh seed, printed: give it to `random.Random` and to `Town` to see a failure again."""
    value = random.randrange(1 << 32)
    print("seed", value)
    return value


@pytest.fixture
def town(tmp_path: Path, image: Path, seed: int) -> Iterator[Callable[..., Town]]:
    """Makes a Town of the given nodes, each a process of this machine; it ends with the test."""

    def program(spec: NodeSpec, place: Place) -> Any:
        return program_on(image, place, f"{spec.node:08x}")

    with ExitStack() as stack:

        def make(*specs: NodeSpec, **options: Any) -> Town:
            return stack.enter_context(Town(tmp_path, program, specs, seed, **options))

        yield make


@pytest.fixture
def target_town(tmp_path: Path, target: Target, target_image: Image, seed: int) -> Iterator[Callable[..., Town]]:
    """Makes a Town whose nodes are devices of the target; it ends with the test. `is_prepared=False`: deployed by a technician's hand."""
    demand(target, LINE, MODELS)
    made: list[NodeDevice] = []
    with ExitStack() as stack:
        stack.callback(lambda: [device.close() for device in made])

        def make(*specs: NodeSpec, is_prepared: bool | None = None, **options: Any) -> Town:
            runner = runner_on(target, target_image, made, is_prepared)
            return stack.enter_context(Town(tmp_path, runner, specs, seed, deadline_s=target.deadline_s(), **options))

        yield make


@pytest.fixture(scope="session")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed kit with this tree's firmware, made once."""
    return make_kit(tmp_path_factory.mktemp("stick") / "kit")


@pytest.fixture(scope="session")
def kit(kit_folder: Path) -> Kit:
    """The same, verified."""
    return open_kit(kit_folder, public_key(KIT_KEY))


@pytest.fixture
def workbench(tmp_path: Path, target: Target, target_image: Image, kit: Kit, seed: int) -> Iterator[Callable[..., Workbench]]:
    """Makes a workbench with power on it: keywords are assets by their wiring."""
    assert MODELS in target.capabilities
    with ExitStack() as stack:

        def make(**wirings: str) -> Workbench:
            assets = {name.replace("_", " "): wiring for name, wiring in wirings.items()}
            made = stack.enter_context(Workbench(tmp_path, target, target_image, kit, assets, seed))
            made.power_on()
            return made

        yield make
