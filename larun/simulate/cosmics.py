"""Cosmic rays with a fixed, documented energy spectrum.

Two populations hit a CCD (Groom 2002, Experimental Astronomy 14, 45; Smith et al. 2002, Proc. SPIE 4669, 172):

**Tracks** (80 %)
    Muons cross the silicon on straight lines. Their zenith angles follow the sea-level flux cos²θ through a horizontal
    detector, so that cos θ has the density 4 cos³θ; azimuths are uniform. The path is depth / cos θ, its projection on
    the pixels depth · tan θ. A minimum-ionising particle sets free most probably 80 electrons per micrometre; the
    energy-loss distribution of thin silicon is a Landau with a relative full width at half maximum of about one half
    (Bichsel 1988, Rev. Mod. Phys. 60, 663), here its Moyal form.
**Compact hits** (20 %)
    Compton electrons and X-rays that stop within a pixel: 2 … 40 keV, uniform in the logarithm, at 3.65 eV for each
    electron.

The charge cloud spreads by diffusion with a Gaussian of 0.25 pixel rms before the pixels collect it: cosmic rays are
sharp, yet not one pixel wide. The pixels are 15 µm, and they hold whole electrons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["cosmic_rays"]

PITCH = 15.0  # micrometre
ELECTRONS_PER_MICROMETRE = 80.0
MOYAL_SCALE = 0.14  # of the most probable loss: the full width of a Moyal at half maximum is 3.59 scales
COMPACT_FRACTION = 0.2
COMPACT_ELECTRONS = (2e3 / 3.65, 40e3 / 3.65)
DIFFUSION = 0.25  # pixel, rms
SMALLEST_COSINE = 0.05
STEP = 0.1  # pixel along the projected track: well below the diffusion
_REACH = 2  # pixels around a point that receive its charge: eight times the diffusion


def cosmic_rays(
    shape: tuple[int, int], *, count: int, rng: np.random.Generator, pixel_depth: float = 2.0
) -> NDArray[np.float32]:
    """Charge that cosmic rays leave in the pixels of one exposure.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    count : int
        Cosmic rays that enter the array, at uniformly random places; what leaves over the edge is lost.
    rng : numpy.random.Generator
        Source of all random numbers: the same generator state gives the same rays.
    pixel_depth : float
        Sensitive thickness over pixel pitch: about 1 for a thinned CCD, 2-3 for deep depletion, 17 for 250 µm silicon.

    Returns
    -------
    ndarray of float32
        Electrons deposited in each pixel, to be added to the image; 0 where no ray went.

    Raises
    ------
    OptionError
        If ``count`` is negative or ``pixel_depth`` is not positive.

    Notes
    -----
    See the module's text for the energy spectrum and its sources.

    Examples
    --------
    >>> charge = cosmic_rays((50, 60), count=3, rng=np.random.default_rng(1))
    >>> charge.shape, charge.dtype, bool((charge >= 0).all())
    ((50, 60), dtype('float32'), True)
    """
    if count < 0:
        raise OptionError(f"count = {count}: the number of cosmic rays must be at least 0")
    if not 0 < pixel_depth < np.inf:
        raise OptionError(f"pixel_depth = {pixel_depth}: thickness over pitch must be positive and finite")
    y = rng.uniform(-0.5, shape[0] - 0.5, count)
    x = rng.uniform(-0.5, shape[1] - 0.5, count)
    azimuth = rng.uniform(0.0, 2 * np.pi, count)
    cosine = np.maximum(rng.uniform(0.0, 1.0, count) ** 0.25, SMALLEST_COSINE)
    compact = rng.uniform(0.0, 1.0, count) < COMPACT_FRACTION
    length = np.where(compact, 0.0, pixel_depth * np.sqrt(1 - cosine**2) / cosine)
    most_probable = ELECTRONS_PER_MICROMETRE * PITCH * pixel_depth / cosine
    # The square of a standard normal number z gives a Moyal number -ln z², whose mode is 0 (Moyal 1955).
    loss = most_probable * (1 - MOYAL_SCALE * np.log(np.maximum(rng.standard_normal(count) ** 2, 1e-12)))
    low, high = np.log(COMPACT_ELECTRONS)
    energy = np.where(compact, np.exp(rng.uniform(low, high, count)), np.maximum(loss, 0.0))

    steps = np.ceil(length / STEP).astype(int) + 1
    ray = np.repeat(np.arange(count), steps)
    number = np.arange(ray.size) - np.repeat(np.cumsum(steps) - steps, steps)
    along = length[ray] * (number + 0.5) / steps[ray]
    return _collect(
        y[ray] + along * np.sin(azimuth[ray]), x[ray] + along * np.cos(azimuth[ray]), (energy / steps)[ray], shape
    )


def _collect(
    y: NDArray[np.float64], x: NDArray[np.float64], charge: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Spread point charges by diffusion and sum what each pixel collects."""
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    offsets = np.arange(-_REACH, _REACH + 1)
    share_y, share_x = _shares(y - row, offsets), _shares(x - column, offsets)
    image = np.zeros(shape[0] * shape[1])
    for i, dy in enumerate(offsets):
        for j, dx in enumerate(offsets):
            to_y, to_x = row + dy, column + dx
            inside = (to_y >= 0) & (to_y < shape[0]) & (to_x >= 0) & (to_x < shape[1])
            part = (charge * share_y[i] * share_x[j])[inside]
            image += np.bincount((to_y * shape[1] + to_x)[inside], part, image.size)
    return np.rint(image).reshape(shape).astype(np.float32)


def _shares(offset: NDArray[np.float64], pixels: NDArray[np.int_]) -> NDArray[np.float64]:
    """The fraction of a Gaussian cloud that falls on each pixel of one axis: (pixel, point)."""
    from scipy.special import ndtr

    edges = np.append(pixels - 0.5, pixels[-1] + 0.5)
    return np.asarray(np.diff(ndtr((edges[:, None] - offset) / DIFFUSION), axis=0))
