"""A lamp driver's 0-10 V / 1-10 V dimming input, fed from a PWM through a filter, and the relay of its mains. Fails bright.

Ref: IEC 60929 Annex E (1-10 V) and ANSI C137.1 (0-10 V): 10 V is full light, 1 V the driver's minimum, the driver sources the
current, so an input left open is full light. The relay's contact is normally closed: its coil at rest (pin 0 or floating) powers
the lamp. The response between the ends differs from one driver model to the next: the curve says which voltage gives which level.
"""

from lamppost_protocol.compat import const

from ..lighting.curve import Curve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import PWM, Pin

_FULL_DUTY_U16 = const(65535)
_FULL_MV = const(10000)
FULL_PERMILLE = 1000

#: (level permille, control mV) of an ideal 1-10 V driver.
IDEAL_CURVE = ((100, 1000), (1000, 10000))


class Dimmer:
    """One lamp. `level_permille` is the level last applied, 0..1000; `read_permille` asks the hardware."""

    def __init__(self, pwm: "PWM", relay: "Pin | None" = None, curve: tuple[tuple[int, int], ...] = IDEAL_CURVE):
        """curve: rising (level permille, mV 0..10000) pairs, the first one being the driver's minimum level. Drives full light."""
        self._pwm = pwm
        self._relay = relay
        self._minimum_permille = curve[0][0]
        self._curve = Curve(curve)
        self.level_permille = FULL_PERMILLE
        self.full()

    def reachable(self, permille: int) -> int:
        """The nearest level this hardware can give for 0..1000: never darker than the driver's minimum, off only by the relay."""
        if permille <= 0:
            return 0 if self._relay is not None else self._minimum_permille
        return min(FULL_PERMILLE, max(self._minimum_permille, permille))

    def set_permille(self, permille: int) -> None:
        """Apply the reachable level nearest to 0..1000. Raises what the hardware raises; the caller then calls `full`."""
        permille = self.reachable(permille)
        is_off = permille == 0
        if self._relay is not None and is_off:
            self._relay.value(1)
        # 10 V is full light by the standards: no configured curve can make "100 %" anything less.
        millivolt = _FULL_MV if permille == FULL_PERMILLE else self._curve.at(permille)
        self._pwm.duty_u16(millivolt * _FULL_DUTY_U16 // _FULL_MV)
        if self._relay is not None and not is_off:
            self._relay.value(0)
        self.level_permille = permille

    def full(self) -> None:
        """Full light, at once and whatever fails: relay at rest, PWM at its maximum, else its pin left floating. Never raises."""
        self.level_permille = FULL_PERMILLE
        try:
            if self._relay is not None:
                self._relay.value(0)
        except Exception:
            pass
        try:
            self._pwm.duty_u16(_FULL_DUTY_U16)
        except Exception:
            self._release()

    def _release(self) -> None:
        try:
            self._pwm.deinit()
        except Exception:
            pass

    def read_permille(self) -> int:
        """The level the pins say, 0..1000: from the duty and the relay as they are. Raises what the hardware raises."""
        if self._relay is not None and self._relay.value():
            return 0
        millivolt = (self._pwm.duty_u16() * _FULL_MV + _FULL_DUTY_U16 // 2) // _FULL_DUTY_U16
        return self._curve.inverse(millivolt)
