"""larun.report."""
