"""larun.instruments."""
