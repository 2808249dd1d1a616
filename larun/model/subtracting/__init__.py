"""One image subtracted from another: what goes into a difference, and what is found on it."""
