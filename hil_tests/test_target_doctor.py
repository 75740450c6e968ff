"""The doctor on a commissioned board: what was spoilt on it is found, by name; afterwards the node runs on."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.steps import commission
from lamppost_tools.doctor.board import evidence_of_board
from lamppost_tools.doctor.diagnosis import diagnose
from lamppost_tools.errors import RefusedError
from street.workbench import Workbench, lead

pytestmark = pytest.mark.needs("console", "files", "line", "models", "reset")

VERSION = 1 << 8
_OTHER_KEY = "import os\nfrom lamppost_protocol import cbor\nv = cbor.decode(open('/lamppost/identity.cbor', 'rb').read())\n"
_OTHER_KEY += "v['private_key'] = b'\\x05' * 32\nopen('/lamppost/identity.cbor', 'wb').write(cbor.encode(v))"
_BOOTS = (
    "from lamppost_node.settings import Settings\nfrom lamppost_node.flash import Flash\nSettings(Flash('/lamppost')).save('boot', [9, 4])"
)
SPOILT = {
    "counter store lost": "import os\nos.remove('/lamppost/counters/tx.0')\nos.remove('/lamppost/counters/tx.1')",
    "schedule missing": "import os\nos.remove('/lamppost/settings/lamp.schedule')",
    "key mismatch": _OTHER_KEY,
    "boot loop": _BOOTS,
}


def run_on(bench: Workbench, code: str) -> None:
    with lead(bench.devices["lamp 1"]) as cable:
        board = Board(cable.path)
        board.enter()
        board.exec(code)
        board.close()


def verdict(bench: Workbench, registry: dict[str, Any], newest_version: int = VERSION) -> list[str]:
    with lead(bench.devices["lamp 1"]) as cable:
        found = diagnose(evidence_of_board(cable.path, registry, newest_version, 12))
    print(json.dumps(found))
    return [finding["symptom"] for finding in found["findings"]]


def test_a_board_tells_what_is_wrong_with_it(workbench: Callable[..., Workbench]) -> None:
    """Healthy: nothing. Then one thing after the other is spoilt, looked at, and put back."""
    bench = workbench(lamp_1="lamp")
    with pytest.raises(RefusedError, match="is no node"), lead(bench.devices["lamp 1"]) as cable:
        evidence_of_board(cable.path, None, VERSION, 12)
    with lead(bench.devices["lamp 1"]) as cable:
        commission(bench.bench(), bench.order("lamp 1", cable.path))
    registry = bench.registry.load()
    assert verdict(bench, registry) == []
    assert verdict(bench, registry, VERSION + 1) == ["old firmware"]
    assert verdict(bench, {**registry, "network": "0000beef"}) == ["wrong network"]
    bench.fault("lamp 1", "meter_unplugged")
    assert verdict(bench, registry) == ["sensor dead"]
    bench.mend("lamp 1")


@pytest.mark.needs("processes")
@pytest.mark.parametrize("symptom", SPOILT)
def test_what_was_spoilt_is_named(workbench: Callable[..., Workbench], symptom: str) -> None:
    """On the board's own flash, by its own hand."""
    bench = workbench(lamp_1="lamp")
    with lead(bench.devices["lamp 1"]) as cable:
        commission(bench.bench(), bench.order("lamp 1", cable.path))
    run_on(bench, SPOILT[symptom])
    assert verdict(bench, bench.registry.load()) == [symptom]
