"""larun.simulate."""
