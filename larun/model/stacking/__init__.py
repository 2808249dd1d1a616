"""Frames of one field put on one another: what each of them is worth, and the stack."""
