"""`const` on both runtimes: MicroPython's compiler puts `_PRIVATE = const(...)` in place where it is used, and keeps neither name nor slot.

Worth about 50 bytes of heap a constant on the node. A private name so declared cannot be imported elsewhere.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import TypeVar

    _Constant = TypeVar("_Constant")

    def const(value: _Constant) -> _Constant:
        """The value itself."""
        return value

else:
    try:
        from micropython import const
    except ImportError:

        def const(value: object) -> object:
            """The value itself."""
            return value


__all__ = ["const"]
