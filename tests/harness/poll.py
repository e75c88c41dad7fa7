"""Waiting for conditions instead of for time."""

import time

# Between two looks at a condition.
INTERVAL_SECONDS = 0.02


class Deadline:
    """A point in time up to which something may take."""

    def __init__(self, seconds):
        self.at = time.monotonic() + seconds

    def left(self):
        """Seconds that are left, at least 0."""
        return max(0.0, self.at - time.monotonic())

    def passed(self):
        return self.left() == 0.0


def eventually(condition, what, seconds=10.0):
    """Calls `condition` until it gives back something true, and gives that back.

    An AssertionError or OSError of the condition counts as "not yet"; the last one is told when time is up.
    """
    deadline = Deadline(seconds)
    while True:
        trouble = None
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, OSError) as error:
            trouble = error
            value = None
        if deadline.passed():
            detail = trouble if trouble is not None else f"it gave {value!r}"
            raise AssertionError(f"not within {seconds:g} s: {what} ({detail})") from trouble
        time.sleep(INTERVAL_SECONDS)


def throughout(condition, what, seconds):
    """Asserts that `condition` gives back something true each time it is looked at for so long."""
    deadline = Deadline(seconds)
    while not deadline.passed():
        value = condition()
        assert value, f"{what}, but it gave {value!r}"
        time.sleep(INTERVAL_SECONDS)
