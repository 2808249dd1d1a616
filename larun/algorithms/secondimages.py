"""Second images of stars: candidates that lie at one and the same shift from many bright stars.

Where the telescope moved during an exposure, or where light is reflected, every bright star has another image at the
same distance and in the same direction. Each by itself looks like a new star. All pairs of a star and a candidate have
a vote for the shift between them; a shift that gets more of them than chance would give it is one of images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import local_maxima

__all__ = ["second_images", "with_saturated"]

#: Stars that vote, the brightest, and those whose images are told: so many times the noise of the sky, as a variance.
_VOTERS, _BRIGHT, _FAINT = 60, 3.0, 1.5
#: Shifts that are looked at, in FWHM: nearer there is what is left of the stars themselves.
_NEAR, _FAR = 2.0, 20.0
#: Pixels, or FWHM, within which shifts are the same.
_SAME, _SAME_FWHM = 2.0, 0.5
#: Least votes, the probability by chance over all shifts, and how many shifts there may be.
_LEAST, _CHANCE, _MOST = 8, 1e-6, 3


def second_images(
    light: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float
) -> NDArray[np.bool_]:
    """Which candidates lie where many bright stars have one.

    Parameters
    ----------
    light : ndarray of float32, (ny, nx)
        Noise variance over that of the sky: more than 1 where stars are.
    x, y : ndarray of float64, (n,)
        Candidates of one sign, pixels.
    fwhm : float
        Of stars, pixels.

    Returns
    -------
    ndarray of bool, (n,)
    """
    made = np.zeros(len(x), bool)
    if len(x) < _LEAST:
        return made
    stars, voters = _stars(light)
    same = max(_SAME, _SAME_FWHM * fwhm)
    for _ in range(_MOST):
        shift = _shift(voters, np.column_stack([x, y])[~made], fwhm, same)
        if shift is None:
            break
        made |= _near(np.column_stack([x, y]) - shift, stars, same)
    return made


def with_saturated(light: NDArray[np.float32], saturated: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The light with the middles of saturated stars as its highest peaks.

    Parameters
    ----------
    light : ndarray of float32, (ny, nx)
        Noise variance over that of the sky; 0 where it is not known.
    saturated : ndarray of bool, (ny, nx)
        Which pixels are.

    Returns
    -------
    ndarray of float32, (ny, nx)
    """
    holes = saturated & (light == 0)
    if not holes.any():
        return light
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(holes)
    return np.asarray(np.where(holes, light.max() + depth, light), np.float32)


def _stars(light: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places of stars whose light is seen in the noise, (n, 2), and of the brightest of them."""
    peaks = local_maxima(read_only(light, np.float32), _FAINT)
    value = light.ravel()[peaks]
    order = np.lexsort((peaks, -value))
    rows, columns = np.divmod(peaks[order], light.shape[1])
    places = np.column_stack([columns, rows]).astype(np.float64)
    return places, places[: min(_VOTERS, int(np.count_nonzero(value > _BRIGHT)))]


def _shift(
    stars: NDArray[np.float64], places: NDArray[np.float64], fwhm: float, same: float
) -> NDArray[np.float64] | None:
    """The shift with the most votes, if chance does not give as many."""
    from scipy.spatial import KDTree
    from scipy.stats import poisson

    votes = (places[:, None] - stars[None, :]).reshape(-1, 2)
    length = np.hypot(votes[:, 0], votes[:, 1])
    votes = votes[(length > _NEAR * fwhm) & (length < _FAR * fwhm)]
    if len(votes) < _LEAST:
        return None
    around = KDTree(votes).query_ball_point(votes, same)
    count = np.array([len(near) for near in around])
    best = int(np.argmax(count))
    cells = (_FAR**2 - _NEAR**2) * (fwhm / same) ** 2
    wanted = max(_LEAST, int(poisson.isf(_CHANCE / cells, len(votes) / cells)) + 1)
    return np.median(votes[around[best]], axis=0) if count[best] >= wanted else None


def _near(places: NDArray[np.float64], stars: NDArray[np.float64], same: float) -> NDArray[np.bool_]:
    from scipy.spatial import KDTree

    return np.asarray(np.isfinite(KDTree(stars).query(places, distance_upper_bound=same)[0]))
