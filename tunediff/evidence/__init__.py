"""What test texts say of the methods: scores, calibration, intervals, tests, a recommendation."""
