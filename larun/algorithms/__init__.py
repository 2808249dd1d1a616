"""Pure array functions: arrays in, named tuples out. Nothing here knows a class of larun's model."""
