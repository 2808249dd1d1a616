"""Who made this pixel, from what, with which parameters.

:class:`Provenance` is an immutable graph of :class:`Step` nodes that ends in :class:`Root` nodes (raw files, arrays);
:func:`operation` makes a method record itself.
"""

from larun.provenance.canonical import array_from_canonical, canonical, digest_of, text_of
from larun.provenance.operation import OPERATIONS, Operation, Recording, operation, predict, recording, unrecorded
from larun.provenance.record import Parent, Provenance, Root, Step, environment, pixel_digest

__all__ = [
    "OPERATIONS",
    "Operation",
    "Parent",
    "Provenance",
    "Recording",
    "Root",
    "Step",
    "array_from_canonical",
    "canonical",
    "digest_of",
    "environment",
    "operation",
    "pixel_digest",
    "predict",
    "recording",
    "text_of",
    "unrecorded",
]
