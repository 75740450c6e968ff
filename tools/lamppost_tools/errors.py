"""What can go wrong for the person at the keyboard: each error says what happened and what to do next.

Exit codes of every `lamppost` command: 0 done, 1 it ran and the answer is no (refused, not valid, proof failed),
2 wrong usage, 3 something it needs is missing or cannot be reached, 4 no answer within the deadline.
"""

EXIT_DONE = 0
EXIT_NO = 1
EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_DEADLINE = 4


class ToolError(Exception):
    """Root of this package's errors: `what` happened, `next_step` to try, `exit_code` of the command."""

    exit_code = EXIT_NO

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


class RefusedError(ToolError):
    """It ran and the answer is no."""

    exit_code = EXIT_NO


class UsageError(ToolError):
    """The command or its input file says something that cannot be done."""

    exit_code = EXIT_USAGE


class MissingError(ToolError):
    """A file, a program or a server that is needed is absent or cannot be reached."""

    exit_code = EXIT_MISSING


class DeadlineError(ToolError):
    """Nothing answered in time."""

    exit_code = EXIT_DEADLINE
