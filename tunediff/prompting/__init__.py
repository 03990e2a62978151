"""A language model is asked for the labels: zero-shot and few-shot, by likelihood or through an endpoint."""
