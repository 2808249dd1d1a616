"""What detection, photometry and matching put into tables."""
