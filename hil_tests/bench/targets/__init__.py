"""The table of targets. A new one is a file here and a row below."""

from collections.abc import Callable

from bench.targets.target import Target


def _unix(argument: str) -> Target:
    from bench.targets.unix_port import UnixPort

    return UnixPort()


def _qemu_rv32(argument: str) -> Target:
    from bench.targets.qemu import RV32, Qemu

    return Qemu(RV32)


def _qemu_arm(argument: str) -> Target:
    from bench.targets.qemu import ARM, Qemu

    return Qemu(ARM)


#: Name before the colon -> maker, given what stands behind it.
TARGETS: dict[str, Callable[[str], Target]] = {"unix": _unix, "qemu-rv32": _qemu_rv32, "qemu-arm": _qemu_arm}
DEFAULT = "unix"


def find_target(text: str) -> Target:
    """`name` or `name:argument`. Raises ValueError for an unknown one."""
    name, _, argument = text.partition(":")
    if name not in TARGETS:
        raise ValueError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name](argument)
