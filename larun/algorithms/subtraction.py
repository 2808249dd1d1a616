"""One image subtracted from another of the same field, the sharper of them made as blurred as the other.

Alard & Lupton (1998, ApJ 503, 325). Which of the two is convolved is decided by their stars. The difference is in the
unit and on the flux scale of the science image, its noise is made white again (:mod:`larun.algorithms.whitening`), and
what the noise of each image adds to it is kept apart: that of the reference is common to all differences made with it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import middle, read_only
from larun.algorithms.background import background
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.kernelfield import (
    Convolved,
    KernelField,
    convolve,
    convolve_variance,
    polynomial_terms,
)
from larun.algorithms.matchbasis import Basis, delta_basis, gauss_basis
from larun.algorithms.matchfit import MatchFit, MatchOptions, fit_kernel
from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.preconvolution import blur_of, blurred, missing_blur
from larun.algorithms.taken import Taken, bright_stars, clipped_mean, polynomial_through
from larun.algorithms.whitening import Spectra, Whitening, whitening
from larun.errors import NotAligned, OptionError

__all__ = ["BASES", "DIRECTIONS", "Difference", "SubtractOptions", "subtract"]

BASES = ("gauss", "delta")
DIRECTIONS = ("auto", "reference", "science")

#: Widths of the Gaussians in units of the one that is missing, and the degrees of their polynomials.
_WIDTHS, _DEGREES = (0.7, 1.5, 3.0), (4, 2, 2)
_NARROWEST = 1.0  # pixels: of that by which these are measured
#: The first part of the kernel is what is missing itself: where noise hides the others they are held near 0, and a
#: first part of another width would be wrong by that. Narrower than this it is a single pixel.
_POINT = 0.3
_REACH = 5.0  # of the kernel, in units of the width that is missing
_HALVES = (7, 20)


def _one_of(names: tuple[str, ...]) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise OptionError(f"{attribute.name}={value!r}: must be one of {', '.join(names)}")

    return check


@attrs.frozen(kw_only=True)
class SubtractOptions:
    """How one image is subtracted from another.

    Parameters
    ----------
    direction : {"auto", "reference", "science"}
        Which image is convolved; by default the sharper one.
    basis : {"gauss", "delta"}
        What the kernel is a sum of: Gaussians times polynomials, or single pixels held smooth.
    order : int
        Of the polynomial by which the kernel changes over the image, 0 to 3.
    background : int
        Of the polynomial of the differential background, 0 to 3.
    constant_sum : bool
        Whether the ratio of fluxes is the same all over the image.
    half : int, optional
        Pixels of the kernel to each side of its middle; by default as the stars need, 7 to 20.
    stamps : int
        Stars that the kernel is fitted to, at most.
    decorrelate : bool
        Whether the noise of the difference is made white.
    preconvolve : bool
        Whether the image that is not convolved is blurred before where the other is not sharper along every direction,
        as trailed or badly focused stars are; only where the noise is made white.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    direction: str = attrs.field(default="auto", validator=_one_of(DIRECTIONS))
    basis: str = attrs.field(default="gauss", validator=_one_of(BASES))
    order: int = 2
    background: int = 2
    constant_sum: bool = True
    half: int | None = None
    stamps: int = 400
    decorrelate: bool = True
    preconvolve: bool = True

    def __attrs_post_init__(self) -> None:
        MatchOptions(order=self.order, background=self.background)
        if self.half is not None and not 1 <= self.half <= 40:
            raise OptionError(f"half = {self.half}: must be 1 to 40 pixels")
        if self.stamps < 3:
            raise OptionError(f"stamps = {self.stamps}: must be at least 3")


#: A difference has no stars: of its weight so much may fall on what neighbours stand in for, which is noise as it is.
_SPARED = 0.2


class Difference(NamedTuple):
    """What :func:`subtract` returns.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        Science less reference, on the flux scale of the science image; NaN where the flags say NO_DATA.
    science_variance, reference_variance : ndarray of float32, (ny, nx)
        What the noise of each image adds to that of a pixel.
    flags : ndarray of uint32, (ny, nx)
        Those of the science image, and of pixels of the reference that a pixel saw.
    convolved : str
        ``"reference"`` or ``"science"``.
    fit : MatchFit
        The kernel, the background and the stamps.
    white : Whitening or None
        By what the noise was made white.
    acf : ndarray of float32 or None
        Autocorrelation of its noise in the middle of the image; None where it was made white.
    light : ndarray of float32, (ny, nx)
        The stars, as blurred as in the image that was not convolved, and on its scale.
    blur : float
        Sigma of the Gaussian that this image was convolved with before, pixels; 0 for none.
    """

    data: NDArray[np.float32]
    science_variance: NDArray[np.float32]
    reference_variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    convolved: str
    fit: MatchFit
    white: Whitening | None
    acf: NDArray[np.float32] | None
    light: NDArray[np.float32]
    blur: float = 0.0

    @property
    def scale(self) -> float:
        """Flux on the science image over that on the reference."""
        return 1 / self.fit.scale if self.convolved == "science" else self.fit.scale


def subtract(
    science: Taken, reference: Taken, *, options: SubtractOptions = SubtractOptions(), part: float = 0.0
) -> Difference:
    """Subtract a reference from an image on the same pixels.

    Parameters
    ----------
    science, reference : Taken
        The images (:func:`look_at`).
    options : SubtractOptions
        How.
    part : float
        Which part of the noise variance of the reference is that of the image itself: above 0 where the reference is a
        stack that it went into.

    Returns
    -------
    Difference

    Raises
    ------
    NotAligned
        If there are too few stars to fit the kernel to.
    OptionError
        If shapes differ.
    """
    if science.data.shape != reference.data.shape:
        raise OptionError(f"science has shape {science.data.shape}, reference {reference.data.shape}: must be one")
    turned = _convolves_science(science, reference, options.direction)
    own, sharp = (reference, science) if turned else (science, reference)
    blur = _blur(own, sharp, options)
    kept = own if blur is None else blurred(own, blur)
    common = (
        math.sqrt(part * middle(own.sky.variance.ravel()) / middle(sharp.sky.variance.ravel())) if part > 0 else 0.0
    )
    fit = _fitted(kept, sharp, options, (common, blur))
    scale = fit.field if turned else None
    plain_noise = not options.decorrelate  # else it goes through both kernels at once
    made = convolve(fit.field, sharp.data, sharp.variance, sharp.flags, level=sharp.level, squares=plain_noise)
    fit = fit._replace(
        background=fit.background + _left_behind(_less(kept, made, fit, None), made.flags | kept.flags, fit)
    )
    plain = _less(kept, made, fit, scale)
    # of a difference the mean tells: no faint stars are left in it that would raise it
    rest = _typical(plain, made.data, (kept, sharp), fit, turned=turned, flags=made.flags | kept.flags)
    plain -= np.float32(rest)
    more = fit.background.copy()
    more[0] += -rest * fit.scale if turned else rest
    fit = fit._replace(background=more)
    white, acf, light, flags = None, None, made.data, made.flags
    if options.decorrelate:
        white = whitening(fit.field, _shape(kept), lambda x, y: _spectra(own, sharp, x, y)._replace(blur=blur))
        del made
        plain, planes, flags = _whitened(plain, (own, kept, sharp), flags, white)
        acf = white.acf
    else:
        acf = _acf(fit.field, kept, sharp)
        assert made.variance is not None
        planes = [kept.variance.copy(), made.variance]
    flags |= kept.flags
    if turned:
        flags |= science.flags & fl.NO_DATA
    factor = _scales(scale, _shape(kept))
    nothing = (flags & fl.NO_DATA) != 0
    for plane in planes:
        if factor is not None:
            np.divide(plane, factor**2, out=plane)
        plane[nothing] = np.nan
    plain[nothing] = np.nan
    one, two = planes[::-1] if turned else planes
    width = 0.0 if blur is None else missing_blur(own.stars, sharp.stars)
    return Difference(plain, one, two, flags, "science" if turned else "reference", fit, white, acf, light, width)


def _blur(kept: Taken, sharp: Taken, options: SubtractOptions) -> NDArray[np.float64] | None:
    """What the image that is kept has to be convolved with before, if it has."""
    if not (options.preconvolve and options.decorrelate):
        return None
    sigma = missing_blur(kept.stars, sharp.stars)
    return blur_of(sigma) if sigma > 0 else None


def _shape(image: Taken) -> tuple[int, int]:
    return image.data.shape[0], image.data.shape[1]


def _convolves_science(science: Taken, reference: Taken, direction: str) -> bool:
    if direction != "auto":
        return direction == "science"
    for name, image in (("science image", science), ("reference", reference)):
        if image.stars.stars == 0:
            raise NotAligned(
                f"the {name} has too few stars to tell how sharp it is: say which is convolved, direction='reference' "
                "or 'science'"
            )
    return science.stars.fwhm < reference.stars.fwhm


def _fitted(
    kept: Taken, sharp: Taken, options: SubtractOptions, shared: tuple[float, NDArray[np.float64] | None]
) -> MatchFit:
    wide, narrow = (max(image.stars.fwhm, 1.0) / FWHM_OF_SIGMA for image in (kept, sharp))
    own = math.sqrt(max(wide**2 - narrow**2, 0.0))
    missing = max(_NARROWEST, own)
    half = options.half or min(max(_HALVES[0], math.ceil(_REACH * missing)), _HALVES[1])
    basis: Basis
    if options.basis == "delta":
        basis = delta_basis(min(half, 7))
    else:
        basis = gauss_basis([max(own, _POINT), *(missing * width for width in _WIDTHS)], [0, *_DEGREES], half)
    stamp = min(max(9, math.ceil(3.5 * wide + 4)), 24)
    x, y = bright_stars(sharp, basis.half + stamp + 1, stamp, options.stamps)
    how = MatchOptions(
        order=options.order,
        background=options.background,
        constant_sum=options.constant_sum,
        half_stamp=stamp,
        gain_science=kept.gain,
        gain_reference=sharp.gain,
        common=shared[0],
        blur=shared[1],
    )
    return fit_kernel(kept.side, sharp.side, basis, x, y, options=how)


def _less(kept: Taken, made: Convolved, fit: MatchFit, scale: KernelField | None) -> NDArray[np.float32]:
    """What is left of an image without the other, convolved, and the background between them; turned round if asked."""
    out = np.empty(kept.data.shape, np.float32)
    own = (fit.background, fit.field.domain, kept.level)
    sums = np.zeros(1) if scale is None else _sum_terms(scale)

    def work(start: int, stop: int) -> None:
        _less_rows(kept.data, read_only(made.data, np.float32), own, sums, out, start, stop)

    over_rows(len(out), work)
    return out


def _left_behind(data: NDArray[np.float32], flags: NDArray[np.uint32], fit: MatchFit) -> NDArray[np.float64]:
    """What is left of the sky, as a polynomial: stamps see the wings of their stars as well."""
    order = next(n for n in range(4) if polynomial_terms(n) == len(fit.background))
    ny, nx = data.shape
    return polynomial_through(background(data, None, flags).mesh_level, (ny, nx), order, fit.field.domain)


def _typical(
    plain: NDArray[np.float32],
    light: NDArray[np.float32],
    images: tuple[Taken, Taken],
    fit: MatchFit,
    *,
    turned: bool,
    flags: NDArray[np.uint32],
) -> float:
    """The clipped mean where there is no star."""
    kept, sharp = images
    ny, nx = plain.shape
    every = 1 + plain.size // 2_000_000  # rows: a part of a large image is enough
    part = slice(None, None, every)
    own = middle(kept.sky.variance[part].ravel())
    other = middle(sharp.sky.variance[part].ravel()) * float(np.sum(fit.field.at((nx - 1) / 2, (ny - 1) / 2) ** 2))
    # the light of either image is noise too, and it is in the difference: this mean of both has none in common with it
    away = np.float32(other / (own + other) * (-fit.scale if turned else 1.0)) * plain[part]
    dim = (flags[part] == 0) & (np.abs(light[part] + away) < np.sqrt(kept.sky.variance[part]))
    return clipped_mean(plain[part][dim])


def _sum_terms(field: KernelField) -> NDArray[np.float64]:
    """The polynomial of a kernel's sum."""
    return np.asarray(np.sum(field.images.sum(axis=(1, 2))[:, None] * field.coefficients, axis=0))


def _scales(field: KernelField | None, shape: tuple[int, int]) -> NDArray[np.float32] | float | None:
    if field is None:
        return None
    terms = _sum_terms(field)
    if not np.any(terms[1:]):
        return float(terms[0])
    x = np.arange(shape[1], dtype=np.float64)
    return np.stack([field.sums(x, np.full(shape[1], float(y))) for y in range(shape[0])]).astype(np.float32)


def _spectra(kept: Taken, sharp: Taken, x: float, y: float) -> Spectra:
    row, column = round(y), round(x)
    return Spectra(float(kept.sky.variance[row, column]), float(sharp.sky.variance[row, column]), kept.acf, sharp.acf)


def _whitened(
    plain: NDArray[np.float32], images: tuple[Taken, Taken, Taken], flags: NDArray[np.uint32], white: Whitening
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.uint32]]:
    """The difference with white noise, and what the noise of both images has become."""
    own, kept, sharp = images
    alike = white.own is white.field  # then both are done at once
    data = convolve(white.field, plain, kept.variance, kept.flags | flags, spared=_SPARED, squares=alike)
    planes = [
        data.variance if data.variance is not None else convolve_variance(white.own, own.variance, own.flags),
        convolve_variance(white.through, sharp.variance, sharp.flags),
    ]
    for plane, factor in zip(planes, white.corrections, strict=True):
        plane *= np.float32(factor)
    return data.data, planes, flags | data.flags


def _acf(field: KernelField, kept: Taken, sharp: Taken) -> NDArray[np.float32]:
    """Autocorrelation of the noise in the middle of the image."""
    from scipy.signal import convolve as full

    ny, nx = _shape(kept)
    spectra = _spectra(kept, sharp, (nx - 1) / 2, (ny - 1) / 2)
    own = field.at((nx - 1) / 2, (ny - 1) / 2)
    made = spectra.convolved * full(own, own[::-1, ::-1], method="direct")
    if sharp.acf is not None:
        made = full(made, np.asarray(sharp.acf, np.float64), method="direct")
    middle = made.shape[0] // 2
    more = np.ones((1, 1)) if kept.acf is None else np.asarray(kept.acf, np.float64)
    reach = more.shape[0] // 2
    made[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1] += spectra.kept * more
    keep = min(middle, 2 * field.half)
    made = made[middle - keep : middle + keep + 1, middle - keep : middle + keep + 1]
    return np.asarray(made / made[keep, keep], np.float32)


@kernel
def _less_rows(kept: Any, made: Any, own: Any, sums: Any, out: Any, start: int, stop: int) -> None:
    background, domain, level = own
    turned = sums[0] != 0.0
    behind, scale = np.empty(out.shape[1]), np.empty(out.shape[1])
    for y in range(start, stop):
        v = (y - domain[2]) / domain[3]
        _along_row(background, v, domain, behind)
        if turned:
            _along_row(sums, v, domain, scale)
        for x in range(out.shape[1]):
            value = kept[y, x] - (level + behind[x]) - made[y, x]
            out[y, x] = -value / scale[x] if turned else value


@kernel
def _along_row(coefficients: Any, v: float, domain: Any, values: Any) -> None:
    """A polynomial over the image in one of its rows: there it is one of u alone."""
    powers = np.zeros(coefficients.size)
    n, d = 0, 0
    while n < coefficients.size:
        for j in range(d + 1):
            powers[d - j] += coefficients[n] * v**j
            n += 1
        d += 1
    for x in range(values.size):
        u = (x - domain[0]) / domain[1]
        total = 0.0
        for k in range(d - 1, -1, -1):
            total = total * u + powers[k]
        values[x] = total
