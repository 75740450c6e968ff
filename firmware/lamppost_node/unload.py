"""Gives back the memory of modules that are needed now and then: while the configuration is checked, for a rare order."""

import sys


def unload(*names: str) -> None:
    """Forget these modules, by their full names; whoever imports one again loads it again. Unknown names are ignored."""
    for name in names:
        sys.modules.pop(name, None)
        package, _, last = name.rpartition(".")
        parent = sys.modules.get(package)
        if parent is not None and hasattr(parent, last):
            delattr(parent, last)
