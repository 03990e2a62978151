"""Methods that are there in every study; those that are trained are named in params.yaml."""

BASELINES = ("majority", "tfidf", "probe", "untrained")
MORE_BASELINES = {"tagging": ("dictionary", "crf")}
"""By the task: what `baseline.more` may name."""
KEPT_BASELINES = ("tfidf", "probe")
"""Those of which a model is saved."""
WITHOUT_LEARNING = ("majority", "untrained")
