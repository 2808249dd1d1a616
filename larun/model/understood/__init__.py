"""What is understood of a file, quantity by quantity, and whether it can be true."""
