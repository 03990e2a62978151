"""All settings together: checked together, and resolved for each stage and method."""
