"""Starts the node; everything else is in lamppost_node."""

import gc

# The one large buffer first, while the heap is whole, and frequent collections while modules come in: what is scattered now stays.
spool_buffer = bytearray(4096)
gc.threshold(12288)

from lamppost_node.slot import choose  # noqa: E402

fall_back = choose()
del choose
try:
    from lamppost_node.app import main
except Exception:
    if fall_back is None:
        raise
    fall_back()

main(spool_buffer)
