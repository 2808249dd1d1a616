"""What a proper difference is made by: filters of both images, its PSF, and the kernel between both PSFs."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.kernelfield import KernelField
from larun.algorithms.matched import matched_psf_spectrum
from larun.algorithms.proper import blurred_psf, width_of
from larun.algorithms.psf import PSF, psf_from_nodes
from larun.algorithms.taken import Taken
from larun.algorithms.whitening import cut, field_through, grid_of, terms_through
from larun.errors import OptionError

__all__ = [
    "Filters",
    "ProperPair",
    "Spectrum",
    "back",
    "filters_of",
    "matching_kernel",
    "proper_psf_of",
    "rim_of",
    "there",
]

#: Part of the light below which nothing is believed of a PSF's spectrum.
_CALM = 2e-3
#: Part of the noise power below which none is believed: frequencies that resampling has emptied.
_EMPTY = 0.02
#: Squares of the filters that may lie beyond the rim of the image in which there is no value, and its pixels.
_RIM, _WIDEST = 1e-5, 20
_SIZE = 128  # pixels: of the spectra by which PSFs and kernels are made

Spectrum = NDArray[np.complex128]


@attrs.frozen(kw_only=True, eq=False)
class ProperPair:
    """Two images on the same pixels, and what is known of them.

    Parameters
    ----------
    science, reference : Taken
        The images.
    psfs : tuple of PSF
        Of both.
    ratio : float
        Flux on the science image over that on the reference.
    skies : tuple of ndarray of float64, (terms,)
        Polynomials of the skies of both over their levels, each in the unit of its own image.

    Raises
    ------
    OptionError
        If shapes differ, or the ratio is not positive.
    """

    science: Taken
    reference: Taken
    psfs: tuple[PSF, PSF]
    ratio: float
    skies: tuple[NDArray[np.float64], NDArray[np.float64]]

    def __attrs_post_init__(self) -> None:
        one, two = self.science.data.shape, self.reference.data.shape
        if one != two:
            raise OptionError(f"science has shape {one}, reference {two}: must be one")
        if not 0 < self.ratio < np.inf:
            raise OptionError(f"ratio = {self.ratio}: the flux on the science image over that on the reference")

    @property
    def images(self) -> tuple[Taken, Taken]:
        """Both."""
        return self.science, self.reference

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.science.data.shape[0], self.science.data.shape[1]

    @property
    def domain(self) -> tuple[float, float, float, float]:
        """In which the skies are polynomials."""
        ny, nx = self.shape
        return (nx - 1) / 2, nx / 2, (ny - 1) / 2, ny / 2


def there(plane: NDArray[Any]) -> Spectrum:
    """The spectrum of a square plane, (n, n // 2 + 1)."""
    from scipy.fft import rfft2

    return np.asarray(rfft2(plane, workers=1))


def back(spectrum: NDArray[Any]) -> NDArray[np.float64]:
    """The plane of a spectrum."""
    from scipy.fft import irfft2

    side = spectrum.shape[0]
    return np.asarray(irfft2(spectrum, (side, side), workers=1))


class Filters(NamedTuple):
    """Spectra (size, size // 2 + 1): what both images are filtered by, the PSFs and the noise of both."""

    images: tuple[Spectrum, Spectrum]
    psf: Spectrum  # of the difference
    psfs: tuple[Spectrum, Spectrum]
    noise: tuple[NDArray[np.float64], NDArray[np.float64]]
    sigma2: tuple[float, float]


def filters_of(pair: ProperPair, x: float, y: float, size: int) -> Filters:
    """What a difference is made by around a place."""
    one, two = (matched_psf_spectrum(_normal(psf, x, y, size), size) for psf in pair.psfs)
    noise = [
        np.ones(one.shape)
        if image.acf is None
        else np.maximum(matched_psf_spectrum(np.asarray(image.acf, np.float64), size).real, _EMPTY)
        for image in pair.images
    ]
    # where nothing is known of either PSF both count alike; elsewhere it does not matter
    calm = _CALM**3 / (np.maximum(np.abs(one), np.abs(two)) ** 2 + _CALM**2)
    row, column = (min(max(round(place), 0), side - 1) for place, side in zip((y, x), pair.shape, strict=True))
    own = [float(image.sky.variance[row, column]) for image in pair.images]
    sigma2 = own[0], own[1] * pair.ratio**2
    first, second = two + calm, one + calm
    root = np.sqrt(sigma2[0] * noise[0] * np.abs(first) ** 2 + sigma2[1] * noise[1] * np.abs(second) ** 2)
    root /= root[0, 0]
    return Filters((first / root, second / root), one * two / root, (one, two), (noise[0], noise[1]), sigma2)


def _normal(psf: PSF, x: float, y: float, size: int) -> NDArray[np.float64]:
    """The pixels of a star in the middle of one, all of whose light is 1."""
    reach = min(psf.radius, size // 2 - 1)
    at = np.arange(-reach, reach + 1.0)
    values = psf.values(at[None, :], at[:, None], x, y)[0]
    return np.asarray(values / values.sum())


def _places(pair: ProperPair) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Where what changes over the image is computed, and the order of the polynomials through it."""
    if pair.psfs[0].order == pair.psfs[1].order == 0:
        middle_x, _, middle_y, _ = pair.domain
        return np.array([middle_x]), np.array([middle_y]), 0
    return *grid_of(pair.shape), 2


def _rolled(spectrum: NDArray[Any]) -> NDArray[np.float64]:
    half = spectrum.shape[0] // 2
    return np.roll(back(spectrum), (half, half), (0, 1))


def rim_of(pair: ProperPair) -> int:
    """Pixels along the edges of the images in which filters see too much of what is beyond."""
    x, y, _ = _places(pair)
    kernels = [_rolled(answer) for place in zip(x, y, strict=True) for answer in filters_of(pair, *place, _SIZE).images]
    half = int(cut(np.stack(kernels), keep_sums=False, lost=_RIM).shape[1] // 2)
    return min(half, _WIDEST, (min(pair.shape) - 1) // 2)


def proper_psf_of(pair: ProperPair) -> PSF:
    """The PSF of the difference, all over the image; all its light is 1.

    Parameters
    ----------
    pair : ProperPair
        The images.
    """
    own = pair.psfs[0]
    x, y, order = _places(pair)
    radius = min(own.radius + 8, _SIZE // 2 - 4)
    nodes = np.stack(
        [blurred_psf(own, filters_of(pair, *place, _SIZE).images[0], place, radius) for place in zip(x, y, strict=True)]
    )
    if order:
        nodes = terms_through(nodes, x, y, order, pair.domain)
    made = psf_from_nodes(
        np.array(nodes), own.oversampling, fwhm=own.fwhm, kind="proper", radius=radius, domain=pair.domain
    )
    return attrs.evolve(made, fwhm=width_of(made))


def matching_kernel(pair: ProperPair, convolved: str) -> KernelField:
    """The kernel that would make the sharper image as blurred as the other: of the PSFs, and with the ratio of fluxes.

    Parameters
    ----------
    pair : ProperPair
        The images.
    convolved : {"reference", "science"}
        Which of them is the sharper one.
    """
    x, y, order = _places(pair)
    kernels = []
    for place in zip(x, y, strict=True):
        wide, sharp = filters_of(pair, *place, _SIZE).psfs[:: 1 if convolved == "reference" else -1]
        kernels.append(_rolled(wide * np.conj(sharp) / (np.abs(sharp) ** 2 + _CALM**2)))
    scale = pair.ratio if convolved == "reference" else 1 / pair.ratio
    inner = cut(np.stack(kernels))
    inner = inner * (scale / inner.sum(axis=(1, 2)))[:, None, None]
    if order:
        return field_through(inner, x, y, order, pair.domain)
    return KernelField(
        images=read_only(inner, np.float64), coefficients=read_only(np.ones((1, 1)), np.float64), domain=pair.domain
    )
