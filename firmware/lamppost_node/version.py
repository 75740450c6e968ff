"""What this firmware calls itself, in hellos and in the node record."""

VERSION = "lamppost 0.1.0"
#: major << 16 | minor << 8 | patch, as the node record carries it.
VERSION_NUMBER = 0 << 16 | 1 << 8 | 0
