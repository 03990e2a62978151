"""DVC experiments in clones: sweeps, clusters, the leaderboard, what runs now."""
