"""What a driver raises. Sensors: one root, one class per way a sensor fails; the fixture turns them into quality codes."""


class SensorFault(Exception):  # noqa: N818  the field says fault
    """The sensor gave nothing usable; `reason` is a short constant text for logs, never peer data."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class NoEcho(SensorFault):
    """The sensor works and says that it sees nothing (an ultrasonic sensor without an echo)."""


class BadChecksum(SensorFault):
    """An answer came whose checksum or CRC is wrong, or whose shape is not the datasheet's."""


class NoAnswer(SensorFault):
    """Nothing came within the datasheet's time, or the bus address was not acknowledged."""


class RadioFault(Exception):  # noqa: N818  the field says fault
    """The radio did not do it; `reason` is a short constant text for logs, `next_step` tells a technician what to look at."""

    def __init__(self, reason: str, next_step: str):
        super().__init__(reason + ": " + next_step)
        self.reason = reason
        self.next_step = next_step
