"""Who still has something to do, and when the others will: what a node that sleeps asks before it does."""


class Rest:
    """By name of a task, until when it has nothing to do. Whoever never said so is not waited for."""

    def __init__(self) -> None:
        self._due_ms: dict[str, int] = {}

    def busy(self, name: str) -> None:
        """This task has something to do now."""
        self._due_ms[name] = 0

    def until(self, name: str, due_ms: int) -> None:
        """This task has nothing to do before `due_ms` (monotonic), unless others give it something."""
        self._due_ms[name] = due_ms

    def due_ms(self) -> int:
        """When the next of them has something to do: 0 while one has."""
        return min(self._due_ms.values()) if self._due_ms else 0
