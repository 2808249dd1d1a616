"""What a subtraction has to know of an image: its sky, the size of its stars, and which of them are bright."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import middle, read_only
from larun.algorithms.background import Background, background
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.detect import DetectOptions, candidates, checked_planes
from larun.algorithms.fwhm import FwhmEstimate, estimate_fwhm
from larun.algorithms.kernelfield import polynomial_terms, terms_at
from larun.algorithms.matchfit import Side, choose_stamps

__all__ = ["Taken", "bright_stars", "clipped_mean", "look_at", "polynomial_through"]

_STARS = 5000
_SNR = 20.0


class Taken(NamedTuple):
    """An image as it is taken into a difference.

    Attributes
    ----------
    data, variance, flags : ndarray, (ny, nx)
        Planes; ``variance`` holds all its noise.
    sky : Background
        Its sky.
    stars : FwhmEstimate
        The size of its stars.
    gain : float
        Electrons per unit.
    acf : ndarray or None
        Autocorrelation of its noise; None where it is white.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    sky: Background
    stars: FwhmEstimate
    gain: float
    acf: NDArray[np.floating[Any]] | None

    @property
    def level(self) -> float:
        """The median of the sky."""
        return float(np.median(self.sky.mesh_level))

    @property
    def side(self) -> Side:
        """What the fit takes."""
        return Side(self.data, self.sky.variance, self.flags, self.level, self.acf)


def look_at(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    *,
    gain: float = 1.0,
    acf: NDArray[np.floating[Any]] | None = None,
) -> Taken:
    """Measure what a subtraction has to know of an image: its sky and the size of its stars.

    Parameters
    ----------
    data, variance, flags : ndarray, (ny, nx)
        Planes. Without a variance the scatter of the sky takes its place, and the photons of the stars.
    gain : float
        Electrons per unit.
    acf : ndarray, optional
        Autocorrelation of the noise.

    Raises
    ------
    OptionError
        If shapes differ, or no pixel is usable.
    """
    image, bits = read_only(data, np.float32), read_only(flags, np.uint32)
    sky = background(image, variance, bits)
    noise = variance
    if noise is None:
        noise = (sky.variance + np.maximum(np.nan_to_num(image - sky.level), 0) / np.float32(gain)).astype(np.float32)
    stars = estimate_fwhm(image, sky.level, sky.variance, bits)
    return Taken(image, read_only(noise, np.float32), bits, sky.anew(), stars, float(gain), acf)


def bright_stars(image: Taken, margin: int, apart: int, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of bright stars all over an image, so far from its edges and from brighter ones; x and y, (n,)."""
    planes = checked_planes(image.data, image.sky.anew().level, image.sky.variance, image.flags)
    peaks, _ = candidates(planes, DetectOptions(fwhm=image.stars.fwhm, threshold=_SNR), 1.0)
    y, x = np.divmod(peaks[:_STARS], image.data.shape[1])
    chosen = choose_stamps(
        x.astype(np.float64),
        y.astype(np.float64),
        (image.data.shape[0], image.data.shape[1]),
        margin=margin,
        apart=apart,
        most=most,
    )
    return x[chosen].astype(np.float64), y[chosen].astype(np.float64)


def polynomial_through(
    mesh: NDArray[np.floating[Any]], shape: tuple[int, int], order: int, domain: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """A polynomial over the image through the cells of a mesh, odd ones left out; of a lower order where they are few.

    Parameters
    ----------
    mesh : ndarray, (my, mx)
        Values of equal cells of the image.
    shape : tuple of int
        Of the image.
    order : int
        Of the polynomial, 0 to 3.
    domain : tuple of float
        As in :class:`larun.algorithms.kernelfield.KernelField`.

    Returns
    -------
    ndarray of float64, (terms,)
    """
    sky = np.asarray(mesh, np.float64)
    rows, columns = sky.shape
    y, x = np.mgrid[:rows, :columns] + 0.5
    wanted = polynomial_terms(order)
    while polynomial_terms(order) * 2 > sky.size and order:
        order -= 1
    ny, nx = shape
    terms = terms_at(x.ravel() * nx / columns - 0.5, y.ravel() * ny / rows - 0.5, order, domain)
    good, made = np.ones(sky.size, bool), np.zeros((terms.shape[1], 1))
    for _ in range(3):
        matrix, right = np.zeros((terms.shape[1],) * 2), np.zeros((terms.shape[1], 1))
        for row, value in zip(terms[good], sky.ravel()[good], strict=True):
            matrix += row[:, None] * row[None, :]
            right[:, 0] += row * value
        solved = solve_positive(matrix, right)
        if solved is None:
            break
        made = solved
        away = np.abs(sky.ravel() - np.sum(terms * made[:, 0], axis=1))
        good = away <= 4 * 1.4826 * np.median(away[good]) + 1e-12
    found = np.zeros(wanted)
    found[: len(made)] = made[:, 0]
    return found


def clipped_mean(values: NDArray[np.float32]) -> float:
    """The mean of what lies within four robust scatters of the median; 0 of nothing."""
    if not values.size:
        return 0.0
    # a mean: the median of Poisson noise lies below it, by a part of the noise that a matched filter sees
    centre = middle(values)
    scatter = 1.4826 * middle(np.abs(values - centre))
    return float(np.mean(values[np.abs(values - centre) <= 4 * scatter], dtype=np.float64))
