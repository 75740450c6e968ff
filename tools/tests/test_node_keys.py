"""What the tools believe of a node's configuration and board is what the firmware says: row by row, pin by pin."""

import importlib
import sys
import types
from pathlib import Path

import pytest
from lamppost_node import config, local_time
from lamppost_tools import node_keys

FIXTURES = Path(config.__file__).parent / "fixtures"


def rows(keys):
    return [(key.name, key.default, key.low, key.high) for key in keys]


def test_the_nodes_keys():
    """Names, defaults and ranges, in the firmware's order."""
    assert rows(node_keys.NODE_KEYS) == list(config.NODE_KEYS)
    assert node_keys.DST_RULES == local_time.RULES
    assert (node_keys.MAX_FIXTURES, node_keys.MAX_CONFIG_BYTES) == (config.MAX_FIXTURES, config.MAX_BYTES)


def test_every_fixtures_keys():
    """Every file of the firmware's fixtures has its rows here, and no other has."""
    kinds = {path.stem for path in FIXTURES.glob("*.py")} - {"__init__"}
    assert set(node_keys.FIXTURE_KEYS) == kinds
    for kind in kinds:
        module = importlib.import_module(f"lamppost_node.fixtures.{kind}")
        assert rows(node_keys.FIXTURE_KEYS[kind]) == list(module.KEYS), kind


@pytest.mark.parametrize("instance", [node_keys.MAX_INSTANCE, node_keys.MAX_INSTANCE + 1])
def test_the_largest_instance(instance):
    """The firmware takes instances up to the one named here and no further."""
    wanted = {"fixtures": [{"kind": "lamp", "instance": instance}]}
    keys = importlib.import_module("lamppost_node.fixtures.lamp").KEYS
    if instance == node_keys.MAX_INSTANCE:
        assert config.check(wanted, lambda kind: keys)["fixtures"][0]["instance"] == instance
    else:
        with pytest.raises(config.ConfigError):
            config.check(wanted, lambda kind: keys)


def board_on_recorded_pins(monkeypatch):
    """The firmware's board on a `machine` that keeps the pin numbers it is asked for."""
    machine = types.ModuleType("machine")

    class Pin:
        OUT = 1

        def __init__(self, number, *_, **__):
            self.number = number

    machine.Pin, machine.WDT = Pin, object
    machine.PWM = lambda pin, **_: pin.number
    machine.UART = lambda _, __, tx, rx, **___: (tx, rx)
    machine.I2C = lambda _, scl, sda, freq: (scl.number, sda.number)
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.delitem(sys.modules, "lamppost_node.board", raising=False)
    board = importlib.import_module("lamppost_node.board").Board()
    monkeypatch.delitem(sys.modules, "lamppost_node.board", raising=False)
    return board


def test_the_boards_pins(monkeypatch):
    """Lamp outputs, sensor UART, bus: where `board.py` puts them, and no instance more."""
    board = board_on_recorded_pins(monkeypatch)
    for instance in range(node_keys.INSTANCES["lamp"]):
        pins = node_keys.pins_of("lamp", instance)
        assert (board.lamp_pwm(instance), board.lamp_relay(instance).number) == (pins["pwm_pin"], pins["relay_pin"])
        assert board.i2c(instance) == (pins["scl_pin"], pins["sda_pin"])
    with pytest.raises(IndexError):
        board.lamp_pwm(node_keys.INSTANCES["lamp"])
    for kind in ("bin", "air"):
        pins = node_keys.pins_of(kind, 0)
        assert board.sensor_uart(0) == (pins["uart_tx_pin"], pins["uart_rx_pin"])
        assert board.i2c(0) == (pins["scl_pin"], pins["sda_pin"])
        with pytest.raises(ValueError, match="one serial sensor"):
            board.sensor_uart(node_keys.INSTANCES[kind])
