"""Methods that are there in every study; those that are trained are named in params.yaml."""

BASELINES = ("majority", "tfidf", "probe", "untrained")
WITHOUT_LEARNING = ("majority", "untrained")
