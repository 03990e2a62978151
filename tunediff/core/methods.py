"""Methods that are there in every study; those that are trained are named in params.yaml."""

from itertools import chain

BASELINES = ("majority", "tfidf", "probe", "untrained")
MORE_BASELINES = {
    "classification": ("setfit",),
    "tagging": ("dictionary", "crf"),
    "generation": ("copy", "lead", "textrank"),
}
"""By the task: what `baseline.more` may name."""
KEPT_BASELINES = ("tfidf", "probe", *chain(*MORE_BASELINES.values()))
"""Those that have a folder, with a model if one is kept for the task."""
WITHOUT_MODEL = ("majority", "tfidf", "dictionary", "crf", *MORE_BASELINES["generation"])
"""Those that need no pretrained model."""
ENCODER = "encoder"
"""The folder that SetFit has beside its regression."""
WITHOUT_LEARNING = ("majority", "untrained")
TARGETS = "targets"
"""The name under which the test texts' own targets stand beside the methods."""
