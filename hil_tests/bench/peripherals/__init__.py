"""Street hardware without hardware: chip models speaking their datasheets' bytes, and the `machine` module that reaches them.

Not MicroPython: machine*.py run on the device's VM, everything else on CPython. Nothing here knows the firmware under test.
"""
