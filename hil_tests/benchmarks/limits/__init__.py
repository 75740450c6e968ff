"""The shortest scripts that do the same work: what a figure is divided by."""
