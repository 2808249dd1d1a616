"""larun.model."""
