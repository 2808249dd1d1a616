"""Stars whose positions and magnitudes are known: from files, stores of partitions, and services."""
