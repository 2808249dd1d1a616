"""One module a topic; each has a tuple ``CASES``."""

#: In the order in which they are run.
TOPICS = (
    "combine",
    "calibrate",
    "clean",
    "background",
    "detect",
    "photometer",
    "psf",
    "psf_crowded",
    "quality",
    "solve",
    "resample",
    "align",
    "stack",
    "subtract",
    "lightcurve",
    "read",
    "cold",
    "night",
    "provenance",
)
