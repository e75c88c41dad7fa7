"""Reading Prometheus' text format."""

import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """The samples of one scrape."""

    def __init__(self, samples):
        self._samples = samples

    def sum(self, name, **labels):
        """The sum of all samples of this name that have these labels."""
        return sum(value for found, at, value in self._samples if found == name and labels.items() <= at.items())

    def by(self, name, label):
        """The sums of the samples of this name, by the values of a label."""
        values = {at[label] for found, at, _ in self._samples if found == name}
        return {value: self.sum(name, **{label: value}) for value in values}

    def names(self):
        return {name for name, _, _ in self._samples}


def parse(text):
    """Reads a scrape; every line must be a comment or a sample."""
    samples = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        name, labels, value = match.groups()
        samples.append((name, dict(_LABEL.findall(labels or "")), float(value)))
    return Metrics(samples)
