"""The table of targets. A new one is a file here and a row below."""

from collections.abc import Callable

from bench.targets.board import Board
from bench.targets.esp_qemu import EspQemu
from bench.targets.qemu import ARM, RV32, Qemu
from bench.targets.target import Target
from bench.targets.unix_port import UnixPort

#: Name before the colon -> maker, given what stands behind it.
TARGETS: dict[str, Callable[[str], Target]] = {
    "unix": lambda _: UnixPort(),
    "qemu-rv32": lambda _: Qemu(RV32),
    "qemu-arm": lambda _: Qemu(ARM),
    "serial": Board,
    "esp-qemu": EspQemu,
}
DEFAULT = "unix"


def find_target(text: str) -> Target:
    """`name` or `name:argument`. Raises ValueError for an unknown one."""
    name, _, argument = text.partition(":")
    if name not in TARGETS:
        raise ValueError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name](argument)
