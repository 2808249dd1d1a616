"""Raw files, their parts, and their rows."""
