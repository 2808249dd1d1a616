"""larun.cli."""
