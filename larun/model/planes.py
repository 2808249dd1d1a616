"""The small values an image is made of: frozen arrays, shared variances, WCS cards."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.jit import over_rows
from larun.algorithms.resampled_noise import LAGS, acf_at, mixed, unpacked
from larun.errors import OptionError
from larun.io.headers import get_number
from larun.provenance import Provenance

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.image import Image

__all__ = [
    "Later",
    "Shared",
    "alike",
    "binned_wcs",
    "correlation_around",
    "freeze",
    "is_wcs_card",
    "mixed_acf",
    "mixed_noise",
    "pixel_scale",
    "same_plane",
    "shifted_wcs",
    "total_variance",
    "wcs_cards",
]

_BAND = 64  # rows at a time

_WCS_CARD = re.compile(
    r"^(WCSAXES|WCSNAME|CTYPE[12]|CRVAL[12]|CRPIX[12]|CDELT[12]|CUNIT[12]|CROTA[12]|CD[12]_[12]|PC[12]_[12]|LONPOLE|LATPOLE"
    r"|RADESYS|RADECSYS|EQUINOX|PV[12]_\d+|(A|B|AP|BP)_(ORDER|DMAX|\d_\d))$"
)


def freeze(value: NDArray[Any] | None) -> Any:
    """A read-only view of an array that nobody else can write to.

    An owner is frozen in place, without a copy; a writable view of something else is copied first.
    """
    if value is None or (not value.flags.writeable and value.flags.c_contiguous and _is_frozen(value.base)):
        return value
    owner = value if value.base is None and value.flags.c_contiguous else value.copy(order="C")
    owner.setflags(write=False)
    return owner[...]


def _is_frozen(owner: Any) -> bool:
    return isinstance(owner, np.ndarray) and not owner.flags.writeable and owner.base is None


@attrs.frozen(eq=False)
class Later:
    """A float32 plane that is computed when somebody looks at it.

    Parameters
    ----------
    shape : tuple of int
        Of the plane.
    make : callable
        Makes it, from values that never change.
    together : callable, optional
        Of planes that were put off together: the sum of a variance and of them all, without making each; None where
        it cannot.
    """

    shape: tuple[int, ...]
    make: Callable[[], NDArray[np.float32]]
    together: Callable[[NDArray[np.float32]], NDArray[np.float32] | None] | None = None


def _plane_or_later(value: Any) -> Any:
    return value if isinstance(value, Later) else freeze(value)


@attrs.frozen
class Shared:
    """What one master's noise adds to the variance of an image: common to every image that used the master.

    Parameters
    ----------
    master : str
        Provenance id of the master; of an aligned image followed by ``@`` and the whole pixels by which it was moved,
        as ``@+12-7``, since the same noise lies elsewhere in frames that were moved otherwise.
    variance : array (ny, nx), float32
        In the unit of the image, squared; negative where the master's noise enters with the opposite sign (as in a
        frame that was subtracted), so that it cancels or adds rightly in later arithmetic.
    """

    master: str
    _variance: NDArray[np.float32] | Later = attrs.field(converter=_plane_or_later, eq=False, repr=False)

    @property
    def variance(self) -> NDArray[np.float32]:
        """The plane; one that was put off is computed now, and kept."""
        value = self._variance
        if isinstance(value, Later):
            value = freeze(value.make())
            object.__setattr__(self, "_variance", value)  # the same value, known at last
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the plane."""
        return self._variance.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the plane's values."""
        return np.dtype(np.float32) if isinstance(self._variance, Later) else self._variance.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that an unpickled plane is frozen again.
        return type(self), (self.master, self.variance)


def total_variance(image: Image) -> NDArray[np.float32] | None:
    """The independent and the shared variance of an image together: whatever is measured on it has its error from this.

    Pixels of a master are independent of each other, so that within one image its noise adds as any other does. Only
    between images does it not average down.

    Returns
    -------
    ndarray of float32, (ny, nx), or None
        The variance plane itself where masters add nothing; None where there is none.
    """
    variance, shared = image.variance, image.shared
    if variance is None or not shared:
        return variance
    waiting = {item._variance.together for item in shared if isinstance(item._variance, Later)}
    if len(waiting) == 1 and all(isinstance(item._variance, Later) for item in shared):
        together = waiting.pop()
        made = None if together is None else together(variance)
        if made is not None:
            return made
    total, planes = np.empty_like(variance), [item.variance for item in shared]

    def work(start: int, stop: int) -> None:
        part = total[start:stop]
        part[...] = variance[start:stop]
        for plane in planes:
            part += np.abs(plane[start:stop])

    over_rows(len(total), work, band=_BAND)
    return total


def correlation_around(image: Image, x: ArrayLike, y: ArrayLike, radii: ArrayLike) -> NDArray[Any] | None:
    """Autocorrelation of the noise as apertures around positions see it: one for the image, or one for each.

    Returns
    -------
    ndarray, (2k + 1, 2k + 1) or (n, r, 2k + 1, 2k + 1), or None
        None where noise is white.
    """
    acf = image.noise_acf
    if image._resampling is None or (acf is not None and acf.shape[0] > 2 * LAGS + 1):  # wider: by convolution
        return acf
    return acf_at(unpacked(image._resampling), x, y, radii)


def same_plane(one: NDArray[Any] | None, two: NDArray[Any] | None) -> bool:
    """Whether two planes agree bit for bit (NaN and signed zeros included), or are both absent."""
    if one is None or two is None:
        return one is two
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def alike(one: Any, two: Any) -> bool:
    """Whether two values of a field of an image agree, arrays bit for bit."""
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return same_plane(one, two)
    if isinstance(one, tuple) and all(isinstance(item, Shared) for item in one):
        pairs = zip(one, two, strict=False)
        return len(one) == len(two) and all(a == b and same_plane(a.variance, b.variance) for a, b in pairs)
    if isinstance(one, Provenance):
        return bool(one.to_dict() == two.to_dict())
    if hasattr(one, "tostring"):
        return bool(one.tostring() == two.tostring())
    return bool(one == two)


def mixed_acf(
    one: NDArray[np.float32] | None, two: NDArray[np.float32] | None, weights: tuple[float, float]
) -> NDArray[np.float32] | None:
    """The noise autocorrelation of a sum: the mean of its terms', weighted by their variances; None is white."""
    if one is None and two is None:
        return None
    size = max(acf.shape[0] for acf in (one, two) if acf is not None)
    made = np.zeros((size, size))
    total = sum(weights)
    for acf, weight in zip((one, two), weights, strict=True):
        part = np.ones((1, 1), np.float32) if acf is None else acf
        margin = (size - part.shape[0]) // 2
        made[margin : size - margin, margin : size - margin] += part * (weight / total if total > 0 else 0.5)
    return made.astype(np.float32)


def mixed_noise(one: Image, two: Image, *, relative: bool) -> dict[str, Any]:
    """How the noise of a sum of two images is correlated; ``relative`` noise has the weight in products."""
    if one.noise_acf is two.noise_acf is None:
        return {}
    weights = (_typical_variance(one, relative=relative), _typical_variance(two, relative=relative))
    rows = one._resampling, two._resampling
    return {
        "noise_acf": mixed_acf(one.noise_acf, two.noise_acf, weights),
        "resampling": None if rows[0] is rows[1] is None else mixed(rows, weights, one.shape),
    }


def _typical_variance(image: Image, *, relative: bool) -> float:
    good = ~image.unusable
    if image.variance is None or not good.any():
        return 1.0
    typical = float(np.median(image.variance[good]))
    level = float(np.median(np.abs(image.data[good]))) if relative else 1.0
    return typical / level**2 if level > 0 else typical


def pixel_scale(image: Image) -> float | None:
    """Arcseconds a pixel by the WCS; None without one, or where it is none of a sky."""
    wcs = image.wcs
    if wcs is None:
        return None
    from astropy.wcs.utils import proj_plane_pixel_scales

    scale = 3600 * float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))
    return scale if np.isfinite(scale) and scale > 0 else None


def is_wcs_card(keyword: str) -> bool:
    """Whether a keyword belongs to the primary celestial WCS."""
    return bool(_WCS_CARD.match(keyword))


def wcs_cards(header: Header) -> Header:
    """The WCS cards of a header, values untouched."""
    from astropy.io import fits

    return fits.Header([card for card in header.cards if is_wcs_card(card.keyword)])


def shifted_wcs(cards: Header, x0: float, y0: float) -> Header:
    """The cards of a window whose first pixel is (x0, y0); SIP terms count from CRPIX and stay."""
    made = cards.copy()
    for keyword, offset in (("CRPIX1", x0), ("CRPIX2", y0)):
        value = get_number(made, (keyword,)).value
        if value is not None:
            made[keyword] = value - offset
    return made


def sampled_wcs(cards: Header, step: int, offset: tuple[int, int]) -> Header:
    """The cards of every ``step``-th pixel of every ``step``-th row, from row and column ``offset`` on."""
    # Sampling is binning with its centre moved from the middle of a block to the pixel that is kept.
    middle = (step - 1) / 2
    return binned_wcs(shifted_wcs(cards, offset[1] - middle, offset[0] - middle), step)


def binned_wcs(cards: Header, factor: int) -> Header:
    """The cards of an image whose pixels are blocks of ``factor`` × ``factor``; SIP coefficients are rescaled."""
    if factor < 1:
        raise OptionError(f"bin factor {factor}: must be at least 1")
    return scaled_wcs(cards, factor)


def scaled_wcs(cards: Header, factor: float) -> Header:
    """The cards of an image whose pixels are ``factor`` times as wide, and begin at the same place."""
    made = cards.copy()
    for keyword in filter(is_wcs_card, cards):
        value = get_number(cards, (keyword,)).value
        if value is None:
            continue
        if keyword.startswith("CRPIX"):
            made[keyword] = _in_card((value - 0.5) / factor + 0.5)
        elif re.match(r"CD\d_\d|CDELT\d", keyword):
            made[keyword] = _in_card(value * factor)
        elif term := re.match(r"(?:A|B|AP|BP)_(\d)_(\d)$", keyword):
            made[keyword] = _in_card(value * float(factor) ** (int(term[1]) + int(term[2]) - 1))
    if "CTYPE1" in cards and not any(keyword.startswith(("CD1_", "CD2_")) for keyword in cards):
        for keyword in ("CDELT1", "CDELT2"):  # the standard's default is 1
            if keyword not in cards:
                made[keyword] = float(factor)
    return made


def _in_card(value: float) -> float:
    """The nearest number whose text fits into the 20 characters of a card: so that it is read as it was."""
    return next(
        (short for digits in range(17, 9, -1) if len(f"{(short := float(f'{value:.{digits}G}'))!r}") <= 20), value
    )
