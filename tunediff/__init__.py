"""What the stages import: rooms by job. docs/architecture.md has the order in which they lean on each other."""
