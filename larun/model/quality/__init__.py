"""How good frames are: widths and shapes of their stars, sky, depth; frames of a field against each other."""
