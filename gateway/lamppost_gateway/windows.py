"""What a gateway knows of one node's counters under one key epoch: which `tx` came, which records are in custody."""

from __future__ import annotations

from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.replay import ReplayWindow

from lamppost_gateway.outbox_rows import NodeState


class Windows:
    """One node's two windows under one epoch, as committed."""

    __slots__ = ("records", "replay")

    def __init__(self, state: NodeState | None = None) -> None:
        self.replay = ReplayWindow(state.tx_highest, state.tx_bitmap) if state else ReplayWindow()
        self.records = ReceiveWindow(state.n_highest, state.n_bitmap) if state else ReceiveWindow()

    def copy(self) -> Windows:
        """A copy to try a batch on."""
        other = Windows()
        other.replay.highest, other.replay.bitmap = self.replay.highest, self.replay.bitmap
        other.records.highest, other.records.bitmap = self.records.highest, self.records.bitmap
        return other

    def state(self, node: int, epoch: int) -> NodeState:
        """The row that persists them."""
        return NodeState(node, epoch, self.replay.highest, self.replay.bitmap, self.records.highest, self.records.bitmap)
