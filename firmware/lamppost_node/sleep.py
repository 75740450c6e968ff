"""Deep sleep of a node on a battery: when, for how long, and how it goes on afterwards. A sleep is a pause within one power-up.

Between two things to do the chip is off but for its RTC. Waking runs everything from the start, and everything goes on where it was: boot
number and monotonic time (records keep their ages), the clock, reserved numbers, what is on its way, back-off, ladder, airtime, alarms. All
that lies in RTC memory, erased as it is read, so that nothing is ever resumed twice. Records lie on flash before anybody sleeps.
What is lost or not whole, or does not fit flash and configuration to the last number, is no pause: the node starts as at power-up. That is
always safe (slack behind `tx`, airtime counted as spent, the time unknown) and costs airtime and a flash write.

Time: the RTC's oscillator is wrong by up to `sleep_drift_ppm`. What has passed at least is counted and the doubt added to the clock's
uncertainty, so nothing comes early: a period lasts up to twice the drift longer than configured. The default of 6 % is for an
ESP32's own 150 kHz oscillator, measured against the crystal before each sleep: no datasheet bounds what temperature does to it then,
and 2 % (Arduino) and 5 % (esp32.com) were seen by users. With a 32 kHz crystal set what that one has.

It stays awake in the first minute after power-up (the boot is not yet a good one, and a technician can get in), in safe mode, and while a
new configuration is about to count. The watchdog is off in deep sleep; the RTC's timer is what wakes.
Known gap: a task that fails again and again keeps the node awake.
"""

import gc

from lamppost_protocol import cbor
from lamppost_protocol.errors import LocalError

from lamppost_node import rtc_image
from lamppost_node.ticks import sleep_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.board import Board
    from lamppost_node.clock import Clock
    from lamppost_node.rest import Rest

#: A wake-up takes a second and a half: below this, staying awake is not dearer.
LEAST_MS = 5_000
_MOST_MS = 86_400_000
_LOOK_MS = 50
_TOO_LONG_MS = 60_000
#: A wake-up that comes this much later than asked, beyond a tenth of the time, was none.
_LATE_MS = 60_000
_EARLY_MS = 1_000


class Pause:
    """What a sleep interrupted. `boots`: its power-up; `head`: firmware and configuration; `passed_ms`: by the RTC, since then."""

    def __init__(self, boots: int, head: "list[int]", clock: "list[Any]", parts: "list[list[Any]]", passed_ms: int):
        self.boots = boots
        self.head = head
        self.clock = clock
        self.parts = parts
        self.passed_ms = passed_ms


def take_pause(board: "Board") -> Pause | None:
    """The sleep this start wakes from, None when it does not, or what was kept is not whole. Erases it. Raises what the board does."""
    if not board.is_waking():
        return None
    data = board.rtc_memory()
    board.keep_in_rtc(b"")
    try:
        image: Any = rtc_image.decode(data)
        boots, head, rtc_ms, asked_ms, clock, parts = image
    except (ValueError, TypeError):
        return None
    passed_ms = board.rtc_ms() - rtc_ms
    if not asked_ms - _EARLY_MS <= passed_ms <= asked_ms + asked_ms // 10 + _LATE_MS:
        return None  # that clock did not run through: nobody knows how long it was
    return Pause(boots, head, clock, parts, passed_ms)


class Sleeper:
    """Puts the node to sleep once nobody has anything to do for a while.

    `parts`: (name, object with `state` and `resume`) of all that goes on afterwards. `may_sleep()`: whether there is no reason against it.
    """

    def __init__(
        self,
        board: "Board",
        clock: "Clock",
        rest: "Rest",
        boots: int,
        head: "list[int]",
        drift_ppm: int,
        link: "Any",
        parts: "list[tuple[str, Any]]",
        may_sleep: "Callable[[], bool]",
    ):
        self._board = board
        self._clock = clock
        self._rest = rest
        self._boots = boots
        self._head = head
        self._drift_ppm = drift_ppm
        self._link = link
        self._parts = parts
        self._may_sleep = may_sleep

    def resume(self, pause: Pause) -> None:
        """Let every part go on. Raises whatever a part says of a state that is not its own: then only a new start is right."""
        if pause.head != self._head:
            raise ValueError("other firmware or configuration")
        if [name for name, _ in pause.parts] != [name for name, _ in self._parts]:
            raise ValueError("other parts")
        for index in range(len(self._parts)):
            self._parts[index][1].resume(cbor.decode(pause.parts[index][1]))

    async def run(self) -> None:
        """Returns never: ends in a sleep."""
        while True:
            await sleep_ms(_LOOK_MS)
            if self._rest_ms() < LEAST_MS:
                continue
            await self._link.sleep()
            if self._rest_ms() < LEAST_MS:
                continue
            # From here on nobody else runs: what is kept is of one instant.
            try:
                self._sleep(min(self._rest_ms(), _MOST_MS))
            except LocalError:
                await sleep_ms(_TOO_LONG_MS)  # more to keep than there is room for: it stays awake, and gets rid of some

    def _rest_ms(self) -> int:
        return self._rest.due_ms() - self._clock.monotonic_ms() if self._may_sleep() else 0

    def _sleep(self, rest_ms: int) -> None:
        """Keep everything and sleep; does not return. Raises LocalError where it does not fit."""
        gc.collect()  # an image in one piece is the largest thing that this node makes but for a frame
        asked_ms = rest_ms * 1_000_000 // (1_000_000 - self._drift_ppm)
        parts = [[name, cbor.encode(part.state())] for name, part in self._parts]  # each with the depth that the codec allows
        image = [self._boots, self._head, self._board.rtc_ms(), asked_ms, self._clock.state(), parts]
        self._board.keep_in_rtc(rtc_image.encode(image))
        self._board.sleep(asked_ms)
