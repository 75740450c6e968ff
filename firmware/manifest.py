"""What is frozen into a node image. Used by MicroPython's `make FROZEN_MANIFEST=...`; never built here, see boot.py."""

# ruff: noqa: F821  these names are given by MicroPython's makemanifest.py
include("$(MPY_DIR)/extmod/asyncio")
# The ESP32 port's modules without its _boot.py: our boot.py mounts the file system, after watchdog and lamp.
freeze("$(PORT_DIR)/modules", ("flashbdev.py", "inisetup.py"))
package("lamppost_protocol", base_path="../protocol", opt=3)
package("lamppost_node", base_path=".", opt=3)
module("boot.py", opt=3)
module("main.py", opt=3)
