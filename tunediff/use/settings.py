"""The section `export` of params.yaml, and what its stage resolved to."""

from tunediff.core.settings import Section, Seed


class Export(Section):
    methods: list[str]
    """Which trained methods are exported."""


class Exporting(Section):
    """What the comparison of an exported model with the trained one depends on."""

    seed: Seed
    confidence: float
    """Confidence of the interval of the difference."""
