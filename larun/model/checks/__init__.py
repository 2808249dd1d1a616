"""The night proves its own errors: tests that need no truth, and their verdicts."""
