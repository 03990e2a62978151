"""All settings together: checked whole, and resolved for each stage and method."""
