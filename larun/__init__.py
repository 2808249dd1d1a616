"""larun."""
