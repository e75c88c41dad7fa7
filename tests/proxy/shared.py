"""Backends that many tests use and none ends."""

from harness import calls, suite

# Three backends, called b1, b2 and b3.
three = suite.Shared(lambda stage: calls.start_backends(stage, 3))


def one(stage):
    """One of the three."""
    return three.get(stage)[0]
