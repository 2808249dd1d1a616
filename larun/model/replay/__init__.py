"""Products made again from the raw files, by their own record."""
