"""A blur for the image that is not convolved, where the other is not sharper than it along every direction.

A kernel makes stars wider. Where the stars of one image are longer along one axis and those of the other along another,
none does what is needed: it would have to sharpen, and what it leaves of bright stars are rings. A round Gaussian for
the image that is kept makes it wider than the other all around. Little is lost by it, since the noise of the difference
is made nearly white afterwards, which sharpens both again as far as they are alike; what stays correlated is told.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.background import background
from larun.algorithms.fwhm import FwhmEstimate, estimate_fwhm
from larun.algorithms.kernelfield import KernelField, convolve
from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.taken import Taken

__all__ = ["blur_of", "blurred", "missing_blur"]

#: Part of a star's variance by which it may be too narrow along an axis: so much a kernel sharpens without rings.
_WITHIN = 0.5
#: How much wider it is made than the other along that axis, pixels: a kernel narrower than a pixel has rings too.
_WIDER = 1.0
_REACH = 4.0  # of the Gaussian


def missing_blur(kept: FwhmEstimate, convolved: FwhmEstimate) -> float:
    """Sigma in pixels of the Gaussian that the image which is not convolved lacks; 0 where it needs none.

    Parameters
    ----------
    kept, convolved : FwhmEstimate
        The stars of the image that is not convolved, and of the one that is.

    Examples
    --------
    >>> missing_blur(FwhmEstimate(4.0, 50, 4.0), FwhmEstimate(3.0, 50, 3.0))
    0.0
    >>> along, across = FwhmEstimate(3.0, 50, 2.5, 0.3, 0.0), FwhmEstimate(3.0, 50, 2.5, -0.3, 0.0)
    >>> round(missing_blur(along, across), 2)
    1.48
    """
    one, other = (_covariance(stars) for stars in (kept, convolved))
    lacking = -float(np.linalg.eigvalsh(one - other)[0])
    usual = math.sqrt(float(np.linalg.det(other)))
    return math.sqrt(lacking + _WIDER**2) if lacking > _WITHIN * usual else 0.0


def _covariance(stars: FwhmEstimate) -> NDArray[np.float64]:
    """Of a Gaussian as wide and long as the stars."""
    size = min(math.hypot(stars.e1, stars.e2), 0.9)  # 1 - b/a
    turn = math.atan2(stars.e2, stars.e1) / 2
    wide = (stars.fwhm / FWHM_OF_SIGMA) ** 2 / (1 - size)
    cos, sin = math.cos(turn), math.sin(turn)
    axes = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(axes @ np.diag([wide, wide * (1 - size) ** 2]) @ axes.T)


def blur_of(sigma: float) -> NDArray[np.float64]:
    """A round Gaussian of sum 1, (k, k).

    Examples
    --------
    >>> blur_of(1.0).shape, round(float(blur_of(1.0).sum()), 6)
    ((9, 9), 1.0)
    """
    half = max(2, math.ceil(_REACH * sigma))
    line = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(np.outer(line, line) / line.sum() ** 2)


def blurred(image: Taken, blur: NDArray[np.float64]) -> Taken:
    """An image convolved with a kernel, as it is taken into a difference.

    Parameters
    ----------
    image : Taken
        As it is.
    blur : ndarray of float64, shape (k, k)
        The kernel.

    Returns
    -------
    Taken
        With its noise as it is then: less of it in a pixel, and neighbours that share it.
    """
    from scipy.signal import convolve as full

    ny, nx = image.data.shape
    field = KernelField(
        images=read_only(blur[None], np.float64),
        coefficients=read_only(np.ones((1, 1)), np.float64),
        domain=((nx - 1) / 2, nx / 2, (ny - 1) / 2, ny / 2),
    )
    made = convolve(field, image.data, image.variance, image.flags, level=image.level)
    assert made.variance is not None
    alone = full(blur, blur[::-1, ::-1], method="direct")
    lags = alone if image.acf is None else full(alone, np.asarray(image.acf, np.float64), method="direct")
    share, plain = (float(part[len(part) // 2, len(part) // 2]) for part in (lags, alone))
    data, flags = read_only(made.data + np.float32(image.level), np.float32), read_only(made.flags, np.uint32)
    variance = read_only(made.variance * np.float32(share / plain), np.float32)
    sky = background(data, variance, flags)
    stars = estimate_fwhm(data, sky.level, sky.variance, flags)
    return Taken(data, variance, flags, sky.anew(), stars, image.gain / share, np.asarray(lags / share, np.float32))
