"""A street as its site file wants it, once checked: what planning and enrolment work from."""

from dataclasses import dataclass
from typing import Any

from lamppost_protocol.regions import Radio

from lamppost_tools.errors import RefusedError

SERIAL = "serial"
LORA = "lora"
MAINS = "mains"
BATTERY = "battery"


@dataclass(frozen=True)
class SiteNode:
    """One node as the file wants it: `config` is what node/config.py takes; `schedules` by fixture name (`lamp`, `lamp.1`)."""

    asset: str
    id: int | None
    line: int
    config: dict[str, Any]
    schedules: dict[str, list[Any]]
    link: str
    port: str | None
    spreading_factor: int | None
    supply: str
    battery_mah: int | None


@dataclass(frozen=True)
class Site:
    """A checked file. `radio`: what all LoRa nodes share, its spreading factor the default's; `downlink`: how the gateway answers
    them; both None without a [lora] table."""

    name: str
    network: int | None
    nodes: list[SiteNode]
    radio: Radio | None
    downlink: Radio | None
    outbox_mb: int

    def node(self, asset: str) -> SiteNode:
        """The node on the piece of furniture called `asset`. Raises RefusedError."""
        for node in self.nodes:
            if node.asset == asset:
                return node
        known = ", ".join(sorted(node.asset for node in self.nodes))
        raise RefusedError(f"no node has asset {asset!r} in the site file", f"one of: {known}")
