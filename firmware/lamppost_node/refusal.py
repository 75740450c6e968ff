"""How a fixture says no to an order."""


class Refused(Exception):  # noqa: N818  not an error: an answer
    """The order will not be carried out; `reason` is a code of `lamppost_protocol.order_words.REASONS`."""

    def __init__(self, reason: int):
        super().__init__(reason)
        self.reason = reason
