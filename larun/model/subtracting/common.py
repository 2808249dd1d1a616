"""Which part of the noise of a reference is that of an image itself: of a frame that went into the stack."""

from __future__ import annotations

from larun.provenance import Provenance

__all__ = ["part_of"]


def part_of(image: Provenance, reference: Provenance) -> float:
    """The part of a reference's noise variance that one of its frames has.

    Parameters
    ----------
    image : Provenance
        Of the image.
    reference : Provenance
        Of the reference, a stack or what was made of it.

    Returns
    -------
    float
        0 where the image is not in it.
    """
    own = {node.id for node in image.line()}
    for node in reference.line():
        if node.step is None or node.step.operation != "stack":
            continue
        notes = node.step.fitted["frames"]
        variances = [(note["weight"] * note["flux_scale"] * note["noise"]) ** 2 for note in notes]
        total = sum(variances)
        return (
            sum(v for v, note in zip(variances, notes, strict=True) if note["frame"] in own) / total if total else 0.0
        )
    return 0.0
