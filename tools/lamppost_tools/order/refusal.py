"""Why the authority does not sign."""


class RequestRefusedError(Exception):
    """The request will not be signed: `reason` for machines, `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
