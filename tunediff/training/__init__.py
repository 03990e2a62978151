"""The one loop that trains every method, and what it needs: checkpoints, several processes, speed."""
