"""What runs: the stages of dvc.yaml, and the commands beside them, each by `python -m stages.NAME`."""
