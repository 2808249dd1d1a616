"""Point-spread functions that images carry in planes of their own, as differences and matched stacks do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.psf import PSF

__all__ = ["facts_of", "stored_psf"]


def facts_of(psf: PSF) -> dict[str, Any]:
    """What a record keeps of a function beside its nodes and its domain."""
    return {"oversampling": psf.oversampling, "radius": psf.radius, "fwhm": psf.fwhm, "kind": psf.kind}


def stored_psf(nodes: NDArray[np.float64], domain: tuple[float, float, float, float], facts: Mapping[str, Any]) -> PSF:
    """The function again.

    Parameters
    ----------
    nodes : ndarray of float64, (terms, m, m)
        Coefficients of the splines.
    domain : tuple of float
        Where its polynomials run from -1 to 1.
    facts : mapping
        From :func:`facts_of`.
    """
    return PSF(
        nodes=read_only(nodes, np.float64),
        oversampling=int(facts["oversampling"]),
        radius=int(facts["radius"]),
        fwhm=float(facts["fwhm"]),
        kind=str(facts["kind"]),
        domain=(float(domain[0]), float(domain[1]), float(domain[2]), float(domain[3])),
    )
