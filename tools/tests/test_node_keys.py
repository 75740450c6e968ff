"""What the tools believe of a node's configuration and board is what the firmware says: row by row, pin by pin."""

import importlib
import sys
import types
from pathlib import Path

import pytest
from lamppost_node import config, local_time, lora_keys
from lamppost_protocol.radio_limits import E22, fixture_problem
from lamppost_tools.node import config_keys

FIXTURES = Path(config.__file__).parent / "fixtures"


def rows(keys):
    return [(key.name, key.default, key.low, key.high) for key in keys]


def test_the_nodes_keys():
    """Names, defaults and ranges, in the firmware's order."""
    assert rows(config_keys.NODE_KEYS) == list(config.NODE_KEYS)
    assert rows(config_keys.LORA_KEYS) == list(lora_keys.KEYS)
    assert config_keys.AIR_DEFAULTS == lora_keys.DEFAULTS
    assert config_keys.DST_RULES == local_time.RULES
    assert (config_keys.MAX_FIXTURES, config_keys.MAX_CONFIG_BYTES) == (config.MAX_FIXTURES, config.MAX_BYTES)


def test_every_fixtures_keys():
    """Every file of the firmware's fixtures has its rows here, and no other has."""
    kinds = {path.stem for path in FIXTURES.glob("*.py") if not path.stem.endswith("_keys")} - {"__init__"}
    assert set(config_keys.FIXTURE_KEYS) == kinds
    for kind in kinds:
        assert rows(config_keys.FIXTURE_KEYS[kind]) == list(config.declared_keys(kind) or ()), kind


@pytest.mark.parametrize("instance", [config_keys.MAX_INSTANCE, config_keys.MAX_INSTANCE + 1])
def test_the_largest_instance(instance):
    """The firmware takes instances up to the one named here and no further."""
    wanted = {"fixtures": [{"kind": "lamp", "instance": instance}]}
    if instance == config_keys.MAX_INSTANCE:
        assert config.check(wanted)["fixtures"][0]["instance"] == instance
    else:
        with pytest.raises(config.ConfigError):
            config.check(wanted)


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
    for instance in range(config_keys.INSTANCES["lamp"]):
        pins = config_keys.pins_of("lamp", instance)
        assert (board.lamp_pwm(instance), board.lamp_relay(instance).number) == (pins["pwm_pin"], pins["relay_pin"])
        assert board.i2c(instance) == (pins["scl_pin"], pins["sda_pin"])
    with pytest.raises(IndexError):
        board.lamp_pwm(config_keys.INSTANCES["lamp"])
    with_uart = [kind for kind in config_keys.FIXTURE_KEYS if "uart_tx_pin" in config_keys.pins_of(kind, 0)]
    assert with_uart == [kind for kind in config_keys.FIXTURE_KEYS if fixture_problem(E22, kind) is not None]
    for kind in ("bin", "air"):
        pins = config_keys.pins_of(kind, 0)
        assert board.sensor_uart(0) == (pins["uart_tx_pin"], pins["uart_rx_pin"])
        assert board.i2c(0) == (pins["scl_pin"], pins["sda_pin"])
        with pytest.raises(ValueError, match="one serial sensor"):
            board.sensor_uart(config_keys.INSTANCES[kind])
