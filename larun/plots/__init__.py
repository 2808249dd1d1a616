"""larun.plots."""
