"""The kernel that makes one image as blurred as another, fitted to stamps around stars (Alard & Lupton 1998).

``science = K ⊗ reference + b`` with K a sum of small images whose coefficients are polynomials of the position, and b
a polynomial, is linear in all unknowns. Each stamp is reduced to its own normal equations, with K as it is in its
middle; they are added up, and stamps that do not fit are left out.

Weights come from a smooth model of the noise and of the stars' light, never from a pixel's own value. The reference
has noise too, which makes the kernel look smaller than it is: what noise alone adds to the normal equations is known,
and taken off.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.jit import over_rows
from larun.algorithms.kernelfield import KernelField, polynomial_terms, terms_at
from larun.algorithms.matchbasis import Basis
from larun.algorithms.matchfit_kernels import add_up, light_range, reduce_range
from larun.errors import NotAligned, OptionError
from larun.flags import UNUSABLE

__all__ = ["MatchFit", "MatchOptions", "Side", "choose_stamps", "fit_kernel"]

#: A stamp needs this share of its pixels.
_WHOLE = 0.6
#: A stamp is left out where its chi^2 is so many robust scatters above the median.
_ODD = 4.0
_TURNS = 8
#: Part of a star's light by which the model may be wrong: the brightest do not decide alone.
_FLOOR = 0.005
#: How strongly the parts of the kernel are held near 0, in units of what the noise of the stamps would make of them.
_HELD = (0.5, 1.0, 3.0, 10.0)


@attrs.frozen(kw_only=True)
class MatchOptions:
    """How the kernel is fitted.

    Parameters
    ----------
    order : int
        Of the polynomials over the image by which the kernel changes, 0 to 3.
    background : int
        Of the polynomial of the differential background, 0 to 3.
    constant_sum : bool
        Whether the kernel's sum is the same everywhere: images that were divided by a flat.
    half_stamp : int
        Pixels to each side of a star that are fitted.
    smooth : float
        Weight of the kernel's curvature, for a basis that has a penalty.
    gain_science, gain_reference : float
        Electrons per unit of each image.
    mask : int
        Bits of flags of pixels that take no part.
    common : float
        Covariance of the noise of a pixel in both images, over the variance that it has in the reference: above 0 where
        the reference is a stack of which the science image is a part.
    blur : ndarray of float64, (k, k), optional
        With what the science image was convolved before: then it has that noise convolved as well.
    """

    order: int = 2
    background: int = 2
    constant_sum: bool = True
    half_stamp: int = 12
    smooth: float = 1e-4
    gain_science: float = 1.0
    gain_reference: float = 1.0
    mask: int = int(UNUSABLE)
    common: float = 0.0
    blur: NDArray[np.float64] | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("order", "background"):
            if getattr(self, name) not in (0, 1, 2, 3):
                raise OptionError(f"{name} = {getattr(self, name)}: must be 0, 1, 2 or 3")
        if self.half_stamp < 3:
            raise OptionError(f"half_stamp = {self.half_stamp}: must be at least 3 pixels")


class Side(NamedTuple):
    """One of the two images, as the fit sees it.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        Pixels.
    variance : ndarray of float32, (ny, nx)
        Smooth noise variance of the sky.
    flags : ndarray of uint32, (ny, nx)
        Flags.
    level : float
        Of the sky.
    acf : ndarray, (2 n + 1, 2 n + 1), or None
        Autocorrelation of the noise; None where it is white.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    level: float
    acf: NDArray[np.floating[Any]] | None = None


class MatchFit(NamedTuple):
    """What :func:`fit_kernel` found.

    Attributes
    ----------
    field : KernelField
        The kernel.
    background : ndarray of float64, (terms,)
        Polynomial of the differential background, with both levels taken off before.
    scale, scale_error : float
        The kernel's sum in the middle of the image, and its error.
    x, y : ndarray of int64, (n,)
        Middles of the stamps that were tried.
    used : ndarray of bool, (n,)
        Those it rests on.
    chi2 : ndarray of float64, (n,)
        Of each stamp, by its degrees of freedom; NaN of those with too few pixels.
    """

    field: KernelField
    background: NDArray[np.float64]
    scale: float
    scale_error: float
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    used: NDArray[np.bool_]
    chi2: NDArray[np.float64]

    @property
    def median_chi2(self) -> float:
        """Median over the stamps that are used; 1 where the kernel describes them to their noise."""
        return float(np.median(self.chi2[self.used]))


def choose_stamps(
    x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], *, margin: int, apart: int, most: int = 400
) -> NDArray[np.int64]:
    """Which stars become stamps: bright ones, all over the image, none within another's stamp.

    Parameters
    ----------
    x, y : ndarray of float64, (n,)
        Stars, the brightest first.
    shape : tuple of int
        Of the image.
    margin : int
        Pixels from the edge.
    apart : int
        Pixels between two of them, along x or y.
    most : int
        How many at most.

    Returns
    -------
    ndarray of int64, (m,)
        Indices of the stars, in the order of rounds over a grid: from each cell its brightest, then the next.
    """
    inside = (x >= margin) & (y >= margin) & (x < shape[1] - margin) & (y < shape[0] - margin)
    known = np.flatnonzero(inside)
    free = np.ones((shape[0], shape[1]), bool)
    alone = []
    for n in known:
        column, row = round(float(x[n])), round(float(y[n]))
        if free[row, column]:
            alone.append(n)
            free[max(row - apart, 0) : row + apart + 1, max(column - apart, 0) : column + apart + 1] = False
    chosen = np.array(alone, np.int64)
    cells = max(1, int(np.sqrt(most / 3)))
    place = (y[chosen] * cells / shape[0]).astype(np.int64) * cells + (x[chosen] * cells / shape[1]).astype(np.int64)
    turn = np.zeros(len(chosen), np.int64)  # how many brighter ones its cell has
    for cell in np.unique(place):
        own = np.flatnonzero(place == cell)
        turn[own] = np.arange(len(own))
    return chosen[np.lexsort((chosen, turn))][:most]


class _Layout(NamedTuple):
    """Where each unknown stands: for every column of a stamp, the first of its unknowns and their number."""

    first: NDArray[np.int64]
    number: NDArray[np.int64]

    @property
    def size(self) -> int:
        return int(self.first[-1] + self.number[-1])


def fit_kernel(
    science: Side,
    reference: Side,
    basis: Basis,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    options: MatchOptions = MatchOptions(),
) -> MatchFit:
    """Fit the kernel and the differential background of ``science = K ⊗ reference + b``.

    Parameters
    ----------
    science, reference : Side
        On the same pixels; the reference is the sharper one.
    basis : Basis
        What the kernel is a sum of.
    x, y : ndarray of float64, (n,)
        Middles of the stamps (:func:`choose_stamps`).
    options : MatchOptions
        Orders, and how large a stamp is.

    Returns
    -------
    MatchFit

    Raises
    ------
    NotAligned
        If there are too few stamps for what is fitted.
    """
    shape = science.data.shape
    domain = ((shape[1] - 1) / 2, shape[1] / 2, (shape[0] - 1) / 2, shape[0] / 2)
    at_x, at_y = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    terms = terms_at(at_x.astype(np.float64), at_y.astype(np.float64), options.order, domain)
    images = basis.images()
    layout = _layout(len(images), terms.shape[1], polynomial_terms(options.background), options.constant_sum)
    stamps = _Stamps(science, reference, basis, (at_x, at_y), domain, options)
    whole = stamps.whole()
    gram = _gram(images, reference.acf)
    seen = options.common * _in_the_middle(images, _lags_between(options.blur, reference.acf))
    own = np.zeros((len(at_x), len(images)))
    own[:, 0] = stamps.ratios()
    power = np.full(len(at_x), float(np.sum(images[0] ** 2)))
    used, solved, chi2 = whole.copy(), np.zeros((layout.size, 2)), np.full(len(at_x), np.nan)
    for _ in range(2):  # the second time with weights by the model that the first one gave
        sums = stamps.reduced(own, power)
        used = whole.copy()
        for _ in range(_TURNS):
            _enough(int(used.sum()), len(images), terms.shape[1], options)
            solved = _solved(sums, terms, used, layout, (gram, basis.penalty, seen), options)
            own = _at_stamps(solved[:, 0], terms, layout, len(images))
            chi2 = np.where(whole, _chi2(sums, own, solved[:, 0], layout, len(images)), np.nan)
            better = whole & (chi2 <= _limit(chi2[whole]))
            if np.array_equal(better, used):
                break
            used = better
        power = np.sum(np.sum(own[:, :, None] * gram[None], axis=1) * own, axis=1)
    coefficients = np.zeros((len(images), terms.shape[1]))
    for n in range(len(images)):
        coefficients[n, : layout.number[n]] = solved[layout.first[n] : layout.first[n] + layout.number[n], 0]
    field = KernelField(
        images=read_only(images, np.float64), coefficients=read_only(coefficients, np.float64), domain=domain
    )
    error = float(np.sqrt(max(solved[0, 1], 0.0)))
    behind = solved[layout.first[len(images)] :, 0].copy()
    return MatchFit(field, behind, float(coefficients[0, 0]), error, at_x, at_y, used, chi2)


def _layout(images: int, terms: int, background: int, constant_sum: bool) -> _Layout:
    count = np.full(images + background, terms)
    count[images:] = 1
    count[0] = 1 if constant_sum else terms
    return _Layout(read_only(np.cumsum(count) - count, np.int64), read_only(count, np.int64))


def _enough(count: int, images: int, terms: int, options: MatchOptions) -> None:
    least = 3 * terms
    if count < least:
        raise NotAligned(
            f"{count} stamps around stars for a kernel of order {options.order}: it needs {least}; use a lower order, "
            "or give more stars"
        )


def _limit(chi2: NDArray[np.float64]) -> float:
    known = chi2[np.isfinite(chi2)]
    middle = float(np.median(known))
    scatter = 1.4826 * float(np.median(np.abs(known - middle)))
    return middle + _ODD * max(scatter, 0.05 * middle)


def _gram(images: NDArray[np.float64], acf: NDArray[np.floating[Any]] | None) -> NDArray[np.float64]:
    """What noise of variance 1 adds to the products of an image's convolutions: the products of the kernels."""
    other = images
    if acf is not None:
        from scipy.ndimage import convolve

        reach = acf.shape[0] // 2
        images = np.pad(images, ((0, 0), (reach, reach), (reach, reach)))
        other = np.stack([convolve(image, np.asarray(acf, np.float64), mode="constant") for image in images])
    one, two = images.reshape(len(images), -1), other.reshape(len(images), -1)
    made = np.zeros((len(images), len(images)))
    for k in range(one.shape[1]):
        made += one[:, k, None] * two[None, :, k]
    return 0.5 * (made + made.T)


def _lags_between(
    blur: NDArray[np.float64] | None, acf: NDArray[np.floating[Any]] | None
) -> NDArray[np.floating[Any]] | None:
    """How the reference's noise is correlated with what the science image has of it."""
    if blur is None or acf is None:
        return acf if blur is None else blur
    from scipy.signal import convolve

    return np.asarray(convolve(blur, np.asarray(acf, np.float64), method="direct"))


def _in_the_middle(images: NDArray[np.float64], acf: NDArray[np.floating[Any]] | None) -> NDArray[np.float64]:
    """What each image makes, in a pixel, of noise that it has in common with that pixel."""
    half = images.shape[1] // 2
    if acf is None:
        return images[:, half, half].copy()
    reach = min(acf.shape[0] // 2, half)
    part, middle = slice(half - reach, half + reach + 1), acf.shape[0] // 2
    lags = slice(middle - reach, middle + reach + 1)
    return np.asarray(np.sum(images[:, part, part] * np.asarray(acf, np.float64)[lags, lags], axis=(1, 2)))


class _Sums(NamedTuple):
    """Normal equations of every stamp: columns are kernels, then the background, then the data."""

    products: NDArray[np.float64]  # (n, c, c)
    noise: NDArray[np.float64]  # (n,) what weights and the reference's noise are together
    pixels: NDArray[np.float64]  # (n,)


class _Stamps:
    """The stamps of a pair of images."""

    def __init__(
        self,
        science: Side,
        reference: Side,
        basis: Basis,
        places: tuple[NDArray[np.int64], NDArray[np.int64]],
        domain: tuple[float, float, float, float],
        options: MatchOptions,
    ) -> None:
        x, y = places
        self._count = len(x)
        self._columns = len(basis.pairs) + polynomial_terms(options.background) + 1
        noise = np.stack([science.variance[y, x], reference.variance[y, x]], axis=-1)
        self._given = (
            (
                tuple(read_only(plane, np.float32) for plane in (science.data, reference.data)),
                tuple(read_only(plane, np.uint32) for plane in (science.flags, reference.flags)),
            ),
            (basis.lines, basis.pairs, basis.less),
            (read_only(np.column_stack([y, x]), np.int64), read_only(noise, np.float64)),
            (
                options.half_stamp,
                np.uint32(options.mask),
                options.background,
                domain,
                (float(science.level), float(reference.level)),
                (float(options.gain_science), float(options.gain_reference), _FLOOR),
            ),
        )

    def reduced(self, own: NDArray[np.float64], power: NDArray[np.float64]) -> _Sums:
        """Normal equations, weighted by the model with these coefficients and these powers of the kernel."""
        products = np.zeros((self._count, self._columns, self._columns))
        more = np.zeros((self._count, 3))
        model = read_only(own, np.float64), read_only(power, np.float64)

        def work(start: int, stop: int) -> None:
            reduce_range(*self._given, model, (products, more), start, stop)

        over_rows(self._count, work, band=4)
        return _Sums(products, more[:, 0], more[:, 1])

    def ratios(self) -> NDArray[np.float64]:
        """The median ratio of the light of the stamps in both images, for each of them."""
        light = self._light()
        good = (light[:, 1] > 0) & (light[:, 0] > 0)
        ratio = float(np.median(light[good, 0] / light[good, 1])) if good.any() else 1.0
        return np.full(self._count, ratio)

    def whole(self) -> NDArray[np.bool_]:
        """Which of them have enough pixels."""
        side = 2 * self._given[3][0] + 1
        return np.asarray(self._light()[:, 2] >= _WHOLE * side * side)

    def _light(self) -> NDArray[np.float64]:
        light = np.zeros((self._count, 3))
        light_range(self._given[0], self._given[2], self._given[3], light, 0, self._count)
        return light


def _solved(
    sums: _Sums,
    terms: NDArray[np.float64],
    used: NDArray[np.bool_],
    layout: _Layout,
    forms: tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]],
    options: MatchOptions,
) -> NDArray[np.float64]:
    """The unknowns, and the first column of the inverse, (n, 2)."""
    gram, penalty, seen = forms
    right = np.zeros((layout.size, 2))
    right[0, 1] = 1.0
    full, noise = np.zeros((layout.size, layout.size)), np.zeros((layout.size, layout.size))
    chosen = read_only(np.flatnonzero(used), np.int64)
    where = (layout.first, layout.number, read_only(terms, np.float64))
    images = len(gram)
    add_up(sums.products, where, chosen, full, right)
    widened = np.zeros_like(sums.products)
    widened[:, :images, :images] = gram[None] * sums.noise[:, None, None]
    widened[:, :images, -1] = seen[None] * sums.noise[:, None]
    alike = np.zeros_like(right)
    add_up(widened, where, chosen, noise, alike)
    right[:, 0] -= alike[:, 0]
    widened[:, :images, -1] = 0.0
    if penalty is not None:
        strength = options.smooth * float(np.sum(sums.products[chosen, 0, 0]))
        widened[:] = 0.0
        widened[:, :images, :images] = penalty[None] * (strength / len(chosen))
        add_up(widened, where, chosen, full, np.zeros_like(right))
    full[np.diag_indices(layout.size)] *= 1 + 1e-9
    held = np.diag(np.diag(noise))
    held[: layout.number[0], : layout.number[0]] = 0.0  # the scale is free
    for strength in _HELD:  # where noise is most of what there is, what is not seen must not be large
        made = solve_positive(full - noise + strength * held, right)
        if made is not None and np.all(np.isfinite(made)):
            return made
    raise NotAligned(
        "the stamps do not tell the parts of the kernel from one another: use a lower order, or fewer parts"
    )


def _at_stamps(
    solved: NDArray[np.float64], terms: NDArray[np.float64], layout: _Layout, images: int
) -> NDArray[np.float64]:
    """The coefficients (stamps, images) in the middle of each stamp."""
    made = np.zeros((len(terms), images))
    for n in range(images):
        count = layout.number[n]
        made[:, n] = np.sum(terms[:, :count] * solved[layout.first[n] : layout.first[n] + count], axis=1)
    return made


def _chi2(
    sums: _Sums, own: NDArray[np.float64], solved: NDArray[np.float64], layout: _Layout, images: int
) -> NDArray[np.float64]:
    behind = solved[layout.first[images] :]
    vector = np.concatenate([own, np.broadcast_to(behind, (len(own), len(behind))), np.full((len(own), 1), -1.0)], 1)
    total = np.sum(np.sum(sums.products * vector[:, None, :], axis=2) * vector, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(sums.pixels > 0, total / sums.pixels, np.nan))
