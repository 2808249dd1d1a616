"""The transform from one image to another: by their stars, by their structure, or by what their WCS say."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable
from collections.abc import Mapping as Mapping_
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.jit import over_rows
from larun.algorithms.listmatch import ListMatch, match_lists
from larun.algorithms.mapping import Mapping, Positions, affine, mapped
from larun.algorithms.phasecorrelation import phase_shift
from larun.algorithms.planefit import PlanePolynomial
from larun.algorithms.quickstars import quick_stars
from larun.algorithms.rings import ring_stars
from larun.errors import NotAligned, OptionError
from larun.io.cards import readable
from larun.model.store import wcs_of

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.sky import SkyImage

__all__ = [
    "METHODS",
    "TOLERANCE",
    "TRANSFORMS",
    "Alignment",
    "align_by",
    "bright_stars",
    "by_star_lists",
    "is_sharp",
    "recalled",
]

METHODS = ("stars", "phase", "wcs")

#: Degrees of the polynomials that the names stand for; 0 is a turn, a scale and a shift.
TRANSFORMS = {"similarity": 0, "affine": 1, "quadratic": 2, "cubic": 3}

_FEWEST = 4  # stars
_MOST = 1500  # stars that are looked at
_BRIGHT = 300  # stars that are matched where that is enough: faint ones, and blends, only blur the fit
_LIKE = (0.97, 1.03)  # scale between images of one camera
_NOISE = 0.3  # pixels: rough error of a position
_SHARP, _SHARP_RINGS = 0.3, 0.09  # rms in pixels of bright stars, beyond which they may be parts of rings; of rings
_WORST = 1.2  # rms in pixels: columns full of defects match each other too, but not to a pixel
#: Pixels by which positions of a bent transform may err between nodes.
TOLERANCE = 2e-3

#: Planes of the reference that was searched last, which never change, and its stars.
_latest: ContextVar[tuple[Callable[[], Any], Callable[[], Any], NDArray[np.float64] | None]] = ContextVar(
    "_latest", default=(lambda: None, lambda: None, None)
)


class Alignment(NamedTuple):
    """Where the pixels of a reference lie on an image.

    Attributes
    ----------
    mapping : Mapping
        From pixels of the reference to those of the image.
    method : str
        ``"stars"``, ``"phase"`` or ``"wcs"``.
    fitted : dict
        What a record keeps: the matrix and offset of a linear transform, the polynomial or the WCS of another, rms in
        pixels, matches, log odds …
    function : callable, optional
        Of a transform that is not linear: takes x and y of pixels of the reference, which may lie beyond it.
    """

    mapping: Mapping
    method: str
    fitted: dict[str, Any]
    function: Positions | None = None

    @property
    def shift(self) -> tuple[int, int]:
        """Whole pixels in x and y from the middle of the reference to where it lies on the image."""
        ny, nx = self.mapping.shape
        x, y = self.mapping.at((nx - 1) / 2, (ny - 1) / 2)
        return (round(float(x) - (nx - 1) / 2), round(float(y) - (ny - 1) / 2)) if np.isfinite(x + y) else (0, 0)


def bright_stars(image: SkyImage) -> NDArray[np.float64]:
    """Positions (n, 2) of the brightest sources of an image, the brightest first."""
    table = image.detect()._table
    x, y, flux = (np.asarray(getattr(table[name], "value", table[name]), np.float64) for name in ("x", "y", "flux"))
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux) & ((np.asarray(table["flags"]) & fl.EDGE) == 0)
    order = np.flatnonzero(good)[np.argsort(-flux[good], kind="stable")][:_MOST]
    return np.column_stack([x[order], y[order]])


def align_by(
    method: str,
    image: SkyImage,
    reference: SkyImage,
    transform: str,
    stars: Callable[[SkyImage], NDArray[np.float64]] = bright_stars,
) -> Alignment:
    """The transform from a reference to an image.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    image, reference : SkyImage
        Calibrated, or not.
    transform : str
        One of :data:`TRANSFORMS`, for stars.
    stars : callable, optional
        Positions of the stars of an image, the brightest first: a series asks for those of its reference once.

    Raises
    ------
    NotAligned
        If the two do not show the same field, or nothing by which that could be told.
    OptionError
        If there is no such method or transform.
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r}: must be one of {', '.join(METHODS)}")
    if transform not in TRANSFORMS:
        raise OptionError(f"transform={transform!r}: must be one of {', '.join(TRANSFORMS)}")
    if method == "wcs":
        return _by_wcs(image, reference)
    if method == "phase":
        return _by_phase(image, reference)
    return _by_stars(image, reference, TRANSFORMS[transform], stars)


def _by_stars(
    image: SkyImage, reference: SkyImage, degree: int, stars: Callable[[SkyImage], NDArray[np.float64]]
) -> Alignment:
    names = repr(reference), repr(image)
    if stars is bright_stars:
        one, two = _quick_stars(reference, image)
        if one is not None and two is not None:
            with contextlib.suppress(NotAligned):  # a full search finds more, and fainter, stars
                found = by_star_lists(one, two, reference.shape, degree, names)
                if is_sharp(found):
                    return found
    lists = stars(reference), stars(image)
    try:
        made = by_star_lists(*lists, reference.shape, degree, names)
    except NotAligned:
        return _by_rings(image, reference, degree, lists, None)
    return made if is_sharp(made) else _by_rings(image, reference, degree, lists, made)


def is_sharp(found: Alignment) -> bool:
    """Whether bright stars lie on one another as well as stars do: else they may be parts of rings."""
    return float(found.fitted.get("rms_bright", 0.0)) < _SHARP


def _by_rings(
    image: SkyImage,
    reference: SkyImage,
    degree: int,
    lists: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: Alignment | None,
) -> Alignment:
    """By the middles of stars that are rings, out of focus; what was found else where no image has rings."""
    names = repr(reference), repr(image)
    rings = [ring_stars(one.data, one.flags) for one in (reference, image)]
    if rings[0] is None and rings[1] is None:
        return other if other is not None else by_star_lists(*lists, reference.shape, degree, names)
    one, two = (own if ring is None else ring.xy for own, ring in zip(lists, rings, strict=True))
    said = " and ".join(
        f"stars of {name} are rings of {ring.diameter:.0f} pixels"
        for name, ring in zip(names, rings, strict=True)
        if ring is not None
    )
    advice = "out of focus: use method='wcs', method='phase' for frames that are out of focus alike, or leave it out"
    try:
        found = by_star_lists(one, two, reference.shape, degree, names)
    except NotAligned as error:
        raise NotAligned(f"{error}; {said}, {advice}") from error
    if not float(found.fitted["rms_bright"]) < _SHARP_RINGS:
        raise NotAligned(
            f"{names[1]} matches {names[0]} to {found.fitted['rms_bright']:.2f} pixels only; {said}, {advice}"
        )
    found.fitted["rings"] = [None if ring is None else float(ring.diameter) for ring in rings]
    return found


def _quick_stars(reference: SkyImage, image: SkyImage) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """The bright stars of both, side by side; a series of frames asks for those of its reference again and again."""
    data, flags, stars = _latest.get()
    found = {0: stars} if data() is reference.data and flags() is reference.flags else {}
    todo = [(number, one) for number, one in enumerate((reference, image)) if number not in found]

    def work(start: int, stop: int) -> None:
        for number, one in todo[start:stop]:
            found[number] = quick_stars(one.data, one.flags)

    over_rows(len(todo), work, band=1)
    _latest.set((weakref.ref(reference.data), weakref.ref(reference.flags), found[0]))
    return found[0], found[1]


def by_star_lists(
    one: NDArray[np.float64], two: NDArray[np.float64], shape: tuple[int, int], degree: int, names: tuple[str, str]
) -> Alignment:
    """The transform between two lists of stars.

    Parameters
    ----------
    one, two : ndarray of float64, (n, 2)
        Stars of the reference and of the image, the brightest first.
    shape : tuple of int
        Of the reference.
    degree : int
        Of the polynomial; 0 for a similarity.
    names : tuple of str
        Of the reference and of the image, for messages.

    Raises
    ------
    NotAligned
        If they are too few, or do not match.
    """
    for name, xy in zip(names, (one, two), strict=True):
        if len(xy) < _FEWEST:
            raise NotAligned(
                f"{name}: {len(xy)} stars, {_FEWEST} are needed to align {names[1]} with {names[0]}: "
                "use method='phase' for a field without stars, or method='wcs'"
            )
    found = None
    for scale, count in ((_LIKE, _BRIGHT), (_LIKE, _MOST), ((0.0, math.inf), _BRIGHT)):
        found = match_lists(one[:count], two[:count], degree=degree, noise=_NOISE, scale=scale)
        if found is not None and max(found.rms) < _WORST:
            break
        found = None
    if found is None:
        raise NotAligned(
            f"{names[1]} and {names[0]} have no stars in common: {len(two)} and {len(one)} stars do not match under "
            "any turn, scale and mirror (another field, or much too different in depth or focus)"
        )
    return _mapping(found, _said(found), shape)


def recalled(method: str, fitted: Mapping_[str, Any], shape: tuple[int, int]) -> Alignment | None:
    """The alignment that a record tells of, bit for bit; None where its numbers are not all of it.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    fitted : mapping
        What was kept of it.
    shape : tuple of int
        Rows and columns of the reference.

    Raises
    ------
    OptionError
        If the numbers are none of a transform.
    """
    if fitted.get("polynomial") is not None:
        return _bent(_polynomial(fitted["polynomial"]), method, dict(fitted), shape)
    if fitted.get("wcs") is not None and fitted.get("reference_wcs") is not None:
        pair = tuple(wcs_of(_header(fitted[name])) for name in ("reference_wcs", "wcs"))
        return None if any(one is None for one in pair) else _bent(_between(*pair), method, dict(fitted), shape)
    if fitted.get("offset") is None or (method == "stars" and fitted.get("matrix") is None):
        return None
    matrix = np.eye(2) if method == "phase" else fitted["matrix"]
    return Alignment(affine(matrix, fitted["offset"], shape), method, dict(fitted))


def _bent(function: Positions, method: str, said: dict[str, Any], shape: tuple[int, int]) -> Alignment:
    return Alignment(mapped(function, shape, tolerance=TOLERANCE), method, said, function)


def _mapping(found: ListMatch, said: dict[str, Any], shape: tuple[int, int]) -> Alignment:
    if found.transform.degree <= 1:
        return Alignment(affine(said["matrix"], said["offset"], shape), "stars", said)
    return _bent(_polynomial(said["polynomial"]), "stars", said, shape)


def _polynomial(known: Mapping_[str, Any]) -> Positions:
    """The function of a polynomial that was kept in a record."""
    centre, half, coefficients = (np.array(known[name], np.float64) for name in ("centre", "half", "coefficients"))
    degree = int(known["degree"])
    if coefficients.shape != (2, (degree + 1) * (degree + 2) // 2) or centre.shape != (2,) or half.shape != (2,):
        raise OptionError("these numbers are none of a polynomial")
    transform = PlanePolynomial(degree=degree, centre=centre, half=half, coefficients=coefficients)

    def function(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        there = transform(np.stack([x, y], axis=-1))
        return there[..., 0], there[..., 1]

    return function


def _said(found: ListMatch) -> dict[str, Any]:
    transform = found.transform
    said: dict[str, Any] = {
        "matches": len(found.first),
        "rms": [float(value) for value in found.rms],
        "rms_bright": _bright_rms(found),
        "scale": float(found.scale),
        "rotation": float(found.rotation),
        "parity": int(found.parity),
        "log_odds": float(found.log_odds),
        "degree": int(transform.degree),
    }
    if transform.degree <= 1:
        said["matrix"] = [[float(value) for value in row] for row in transform.slope(transform.centre)]
        said["offset"] = [float(value) for value in transform(np.zeros((1, 2)))[0]]
    else:
        said["polynomial"] = {
            "degree": int(transform.degree),
            "centre": transform.centre.tolist(),
            "half": transform.half.tolist(),
            "coefficients": transform.coefficients.tolist(),
        }
    return said


def _bright_rms(found: ListMatch) -> float:
    """Rms along an axis of the brightest quarter of the pairs, at least ten: stars come the brightest first."""
    count = min(len(found.first), max(10, len(found.first) // 4))
    return float(np.sqrt(np.mean(found.residual[:count] ** 2)))


def _by_phase(image: SkyImage, reference: SkyImage) -> Alignment:
    if image.shape != reference.shape:
        raise OptionError(
            f"method='phase' needs images of one shape: {image!r} and {reference!r}; crop one of them, or use stars"
        )
    masks = tuple((one.flags & fl.UNUSABLE) != 0 for one in (reference, image))
    found = phase_shift(reference.data, image.data, (masks[0], masks[1]))
    if found is None:
        raise NotAligned(f"{image!r} and {reference!r} have no structure in common that stands out of the noise")
    said = {"offset": [found.dx, found.dy], "error": found.error, "significance": found.significance}
    return Alignment(affine(np.eye(2), [found.dx, found.dy], reference.shape), "phase", said)


def _by_wcs(image: SkyImage, reference: SkyImage) -> Alignment:
    for one in (reference, image):
        if one.wcs is None:
            raise NotAligned(f"{one!r} has no WCS: use method='stars', or solve it first")
    said = {"reference_wcs": _cards(reference._wcs_header), "wcs": _cards(image._wcs_header)}
    made = recalled("wcs", said, reference.shape)
    assert made is not None
    made.fitted.update(position_error=made.mapping.error, scale=made.mapping.scale())
    return made


def _between(one: Any, two: Any) -> Positions:
    """From pixels of one WCS to those of another."""

    def function(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        there = two.all_world2pix(*one.all_pix2world(x, y, 0), 0, quiet=True)
        return np.asarray(there[0], np.float64), np.asarray(there[1], np.float64)

    return function


def _cards(header: Header) -> dict[str, Any]:
    """Cards of a WCS as a record keeps them."""
    plain = (bool, int, float, str)
    return {card.keyword: card.value for card in readable(header.cards).cards if isinstance(card.value, plain)}


def _header(cards: Mapping_[str, Any]) -> Header:
    from astropy.io.fits import Header

    made = Header()
    for name, value in cards.items():
        made[name] = value
    return made
