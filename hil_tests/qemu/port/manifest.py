"""What is frozen into a bench image: asyncio and the boot script. The firmware under test is deployed to the flash, as on a board."""

# ruff: noqa: F821  these names are given by MicroPython's makemanifest.py
include("$(MPY_DIR)/extmod/asyncio")
freeze("modules")
