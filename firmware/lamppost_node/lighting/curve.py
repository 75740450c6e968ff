"""Straight lines between points: what a lamp driver takes, or wants on its control input, at a level between the measured ones."""


class Curve:
    """A rising function given by (x, y) pairs with rising x; constant beyond its ends. Integers."""

    def __init__(self, points: tuple[tuple[int, int], ...]):
        self._points = points

    def at(self, x: int) -> int:
        """y at x."""
        points = self._points
        lower = points[0]
        if x <= lower[0]:
            return lower[1]
        for upper in points:
            if x <= upper[0]:
                if upper[0] == lower[0]:
                    return upper[1]
                return lower[1] + (upper[1] - lower[1]) * (x - lower[0]) // (upper[0] - lower[0])
            lower = upper
        return lower[1]

    def inverse(self, y: int) -> int:
        """The smallest x whose y is the one given, rounded to nearest; the nearest end beyond them."""
        points = self._points
        lower = points[0]
        if y <= lower[1]:
            return lower[0]
        for upper in points:
            if y <= upper[1]:
                span = upper[1] - lower[1]
                if span <= 0:
                    return lower[0]
                return lower[0] + ((upper[0] - lower[0]) * (y - lower[1]) + span // 2) // span
            lower = upper
        return lower[0]
