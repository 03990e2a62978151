"""The section `export` of params.yaml."""

from tunediff.core.settings import Section


class Export(Section):
    methods: list[str]
    """Which trained methods are exported to ONNX."""
