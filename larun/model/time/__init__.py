"""When and where an exposure was taken, from whatever cards a header has."""
