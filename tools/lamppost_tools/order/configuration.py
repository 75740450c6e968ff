"""What a node in service is to have by the site file, and what of it is new: before anything is asked of the authority."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamppost_tools.errors import RefusedError
from lamppost_tools.node.differences import differences
from lamppost_tools.node.registry import Registry
from lamppost_tools.site.file import node_of_site


@dataclass(frozen=True)
class Wanted:
    """`node`: 8 hex digits. `changes`: against what the registry says that it has, one line a key."""

    node: str
    asset: str
    configuration: dict[str, Any]
    changes: list[str]


def wanted_configuration(site: Path, asset: str | None, registry: Path, network: int) -> Wanted:
    """The configuration of one asset's node, made as commissioning makes it. Raises ToolError."""
    configuration, asset, _, _ = node_of_site(site, asset, network)
    known = Registry(registry)
    if known.network() != network:
        raise RefusedError(f"{registry} belongs to network {known.network():08x}, not {network:08x}", "give the other --registry")
    found = {name: entry for name, entry in known.nodes().items() if entry.get("asset") == asset and not entry.get("revoked")}
    if len(found) != 1:
        raise RefusedError(
            f"{registry} knows {len(found)} nodes of {asset!r}", "`lamppost node list` shows who is who; lamppost commission makes one"
        )
    ((node, entry),) = found.items()
    if "configuration" not in entry:
        raise RefusedError(
            f"{registry} does not know the configuration of node {node}: it was enrolled before that was kept",
            "lamppost commission, once, with the cable: from then on orders can change it",
        )
    return Wanted(node, asset, configuration, differences(entry["configuration"], configuration))
