"""For all tests: every frame they make is held against the grammar of the wire."""

pytest_plugins = ["frame_recorder"]
