"""larun.provenance."""
