"""One small file a camera. Each is found through the entry-point group ``larun.instruments``."""
