"""larun.io."""
