"""Images laid upon one another: which stars are which, the transform, and the pixels on other pixels."""
