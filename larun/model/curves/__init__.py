"""What light curves are made of."""
