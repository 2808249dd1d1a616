"""What an engine that finds sources receives and returns, whoever wrote it, and how larun completes the rest.

An engine is a function ``find(search, …)``: it gets one :class:`Search` and returns one :class:`Found`. Positions are
the engine's, and so is whatever else it measures; :func:`complete` measures what it does not give, in the same way for
all engines, so that every engine's catalogue has the same columns, units and meanings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.detect import FINDING_MASK, Detections, DetectOptions, checked_planes, described
from larun.algorithms.peaks import gaussian_profile, noise_factor, signal_to_noise
from larun.errors import OptionError

__all__ = [
    "Found",
    "Search",
    "between",
    "complete",
    "correlated_factor",
    "footprint_error",
    "found_by",
    "nothing",
    "one_of",
    "options_of",
    "photutils_background",
    "search_of",
    "searchable",
]

_Options = TypeVar("_Options")

#: Engines of other packages are not asked about less than this: some of them divide by zero there.
_SMALLEST = 8
#: What an engine or a function of the user's own may measure besides x and y.
_MEASURED = ("snr", "flux", "flux_error", "peak", "x_error", "y_error", "fwhm", "ellipticity", "theta")


class Search(NamedTuple):
    """What an engine receives: read-only planes of one shape (ny, nx), and what it should look for.

    Attributes
    ----------
    data : float32
        The image as it is; a pixel that is ``unusable`` may hold anything.
    unusable : bool
        Pixels whose value means nothing: BAD, COSMIC, FLAT_INVALID, NO_DATA or not finite. Saturated pixels take part.
    level : float32
        larun's background.
    noise : float32
        1 sigma of the sky in each pixel, smooth; in the unit of the data.
    flags : uint32
        All flags.
    threshold : float
        Least S/N of a source.
    fwhm : float
        FWHM of a star in pixels, before the pixel blurs it.
    gain : float
        Electrons per unit of the data.
    mesh : int
        Size in pixels of the cells of a background.
    acf : (2 m + 1, 2 m + 1) float64 or None
        Autocorrelation of the noise, 1 at its centre; None for white noise.
    """

    data: NDArray[np.float32]
    unusable: NDArray[np.bool_]
    level: NDArray[np.float32]
    noise: NDArray[np.float32]
    flags: NDArray[np.uint32]
    threshold: float
    fwhm: float
    gain: float
    mesh: int
    acf: NDArray[np.float64] | None

    @property
    def signal(self) -> NDArray[np.float32]:
        """The data above the background, 0 where a pixel is unusable: a fresh array of native float32."""
        return self.above(self.level)

    def above(self, level: NDArray[np.float32]) -> NDArray[np.float32]:
        """The data above another level, 0 where a pixel is unusable."""
        return np.where(self.unusable, np.float32(0), self.data - level).astype(np.float32, copy=False)


class Found(NamedTuple):
    """What an engine returns: one element a source, in any order; None is measured by larun.

    Attributes
    ----------
    x, y : (n,) float64
        Position, pixels; (0, 0) is the centre of the first pixel.
    snr, flux, flux_error, peak, x_error, y_error, fwhm, ellipticity, theta : (n,) float64 or None
        As in :class:`larun.algorithms.detect.Detections`. ``flux`` is what the engine sums up.
    level : (ny, nx) float32 or None
        The engine's own background; None for larun's.
    spread : (float, float)
        Where larun measures the errors of the positions: how much more the engine's positions scatter than larun's
        own, as a factor, and what its pixels add in any case, in pixels.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    snr: NDArray[np.float64] | None = None
    flux: NDArray[np.float64] | None = None
    flux_error: NDArray[np.float64] | None = None
    peak: NDArray[np.float64] | None = None
    x_error: NDArray[np.float64] | None = None
    y_error: NDArray[np.float64] | None = None
    fwhm: NDArray[np.float64] | None = None
    ellipticity: NDArray[np.float64] | None = None
    theta: NDArray[np.float64] | None = None
    level: NDArray[np.float32] | None = None
    spread: tuple[float, float] = (1.0, 0.0)


def search_of(
    data: NDArray[np.float32],
    level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
    *,
    options: DetectOptions,
    mesh: int = 64,
    acf: NDArray[np.float64] | None = None,
) -> Search:
    """A search of an image, its planes checked and read-only.

    Parameters
    ----------
    data, level, noise_variance, flags : (ny, nx)
        As for :func:`larun.algorithms.detect.detect_matched`.
    options : DetectOptions
        Threshold, FWHM and gain.
    mesh : int
        Size of the cells of an engine's own background.
    acf : array, optional
        Autocorrelation of the noise.

    Raises
    ------
    OptionError
        If the planes have different shapes.
    """
    data, level, variance, flags = checked_planes(data, level, noise_variance, flags)
    known = (variance > 0) & np.isfinite(variance)
    unusable = (flags & np.uint32(FINDING_MASK) != 0) | ~np.isfinite(data) | ~known
    noise = np.sqrt(np.where(known, variance, 1.0))
    return Search(
        data=read_only(data, np.float32),
        unusable=read_only(unusable, np.bool_),
        level=read_only(level, np.float32),
        noise=read_only(noise, np.float32),
        flags=read_only(flags, np.uint32),
        threshold=options.threshold,
        fwhm=options.fwhm,
        gain=options.gain,
        mesh=int(mesh),
        acf=acf,
    )


def complete(search: Search, found: Found) -> Detections:
    """Everything a catalogue wants to know of the sources an engine has found.

    What the engine did not measure is measured as :func:`larun.algorithms.detect.detect_matched` does it, above the
    engine's background; ``snr`` is then that of the matched filter at the source's pixel. A position outside the
    image, where marginal fits may run to, is replaced by larun's own.

    Returns
    -------
    Detections
        In falling order of S/N; equal ones by y, then x.
    """
    ny, nx = search.data.shape
    # a fresh array, as the background is elsewhere: kernels are compiled anew for one that is read-only
    level = np.array(search.level if found.level is None else found.level, np.float32, order="C")
    variance = np.where(search.unusable, np.float32(np.nan), search.noise**2).astype(np.float32)
    planes = (search.data, level, variance, search.flags)
    column = np.clip(np.rint(found.x), 0, nx - 1).astype(np.int64)
    row = np.clip(np.rint(found.y), 0, ny - 1).astype(np.int64)
    options = DetectOptions(fwhm=search.fwhm, threshold=search.threshold, gain=search.gain)
    if found.snr is None:
        star = gaussian_profile(search.fwhm)
        image = signal_to_noise(planes, FINDING_MASK, star, noise_factor(star, star, search.acf))
        snr = image[row, column].astype(np.float64)
    else:
        snr = found.snr
    with np.errstate(invalid="ignore", divide="ignore"):  # a place may have no signal at all
        own = described(planes, row * nx + column, snr, options, search.acf)
    there = (found.x >= -0.5) & (found.x <= nx - 0.5) & (found.y >= -0.5) & (found.y <= ny - 0.5)
    factor, floor = found.spread
    given = {
        "x_error": np.where(there, np.hypot(factor * own.x_error, floor), own.x_error),
        "y_error": np.where(there, np.hypot(factor * own.y_error, floor), own.y_error),
    }
    given |= {name: getattr(found, name) for name in _MEASURED if getattr(found, name) is not None}
    made = own._replace(x=np.where(there, found.x, own.x), y=np.where(there, found.y, own.y), **(given | {"snr": snr}))
    order = np.lexsort((made.x, made.y, -made.snr))
    columns: Any = (np.ascontiguousarray(values[order]) for values in made)
    return Detections(*columns)


def found_by(function: Callable[..., Any], search: Search, options: Mapping[str, Any]) -> Found:
    """Run a function of the user's own, ``function(search, **options)``, and check what it returns.

    It may return an (n, 2) array of x and y, or a mapping or table with ``x``, ``y`` and any of ``snr``, ``flux``,
    ``flux_error``, ``peak``, ``x_error``, ``y_error``, ``fwhm``, ``ellipticity``, ``theta``; or a :class:`Found`.

    Raises
    ------
    OptionError
        If the result is none of these, a position is not finite or outside the image, or lengths differ.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    result = function(search, **options)
    if isinstance(result, Found):
        values = {key: value for key, value in result._asdict().items() if value is not None and key != "spread"}
    elif isinstance(result, Mapping) or hasattr(result, "colnames"):
        keys = list(result) if isinstance(result, Mapping) else list(result.colnames)
        values = {str(key): result[key] for key in keys}
    else:
        try:
            array = np.asarray(result, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{name} returned a {type(result).__name__}: {_CONTRACT}") from error
        array = array.reshape(0, 2) if array.size == 0 else array
        if array.ndim != 2 or array.shape[1] != 2:
            raise OptionError(f"{name} returned an array of shape {array.shape}: {_CONTRACT}")
        values = {"x": array[:, 0], "y": array[:, 1]}
    return _checked(name, values, search.data.shape)


_CONTRACT = f"must be an (n, 2) array of x and y, or a mapping or table of x, y and any of {', '.join(_MEASURED)}"


def _checked(name: str, values: dict[str, Any], shape: tuple[int, ...]) -> Found:
    unknown = sorted(set(values) - {"x", "y", "level", *_MEASURED})
    if unknown or not {"x", "y"} <= set(values):
        raise OptionError(f"{name} returned {', '.join(sorted(values)) or 'nothing'}: {_CONTRACT}")
    level = values.pop("level", None)
    if level is not None and (np.shape(level) != shape or not np.isfinite(level).all()):
        raise OptionError(f"{name} returned a level of shape {np.shape(level)}: must be finite, of shape {shape}")
    made: dict[str, Any] = {}
    for key, value in values.items():
        try:
            made[key] = np.array(getattr(value, "value", value), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{name} returned {key} = {value!r}: must be numbers") from error
    lengths = {key: value.shape for key, value in made.items()}
    if len(set(lengths.values())) != 1 or made["x"].ndim != 1:
        raise OptionError(f"{name} returned columns of shapes {lengths}: must be (n,), all of one length")
    limits = {"x": shape[1] - 0.5, "y": shape[0] - 0.5}
    for key, most in limits.items():
        wrong = ~((made[key] >= -0.5) & (made[key] <= most))
        if wrong.any():
            raise OptionError(f"{name} returned {key} = {made[key][wrong][0]}: must lie within -0.5 … {most}")
    if "snr" in made and not np.isfinite(made["snr"]).all():
        raise OptionError(f"{name} returned an snr that is not finite: leave the column out, and larun measures it")
    return Found(level=level, **made)


def options_of(kind: type[_Options], engine: str, given: Any) -> _Options:
    """An engine's options from None, a mapping or the options themselves.

    Raises
    ------
    OptionError
        If it is something else, or names an option the engine does not have: the message lists what there is.

    Examples
    --------
    >>> from larun.algorithms.engine_sep import SepOptions
    >>> options_of(SepOptions, "sep", {"min_area": 3}).min_area
    3
    """
    if given is None:
        return kind()
    if isinstance(given, kind):
        return given
    names = [field.name for field in attrs.fields(kind)]  # type: ignore[arg-type]  # options are attrs classes
    if not isinstance(given, Mapping):
        raise OptionError(
            f"options={given!r}: method={engine!r} takes a {kind.__name__}, or a mapping of {', '.join(names)}"
        )
    unknown = [str(key) for key in given if key not in names]
    if unknown:
        raise OptionError(f"options: {engine} has no {', '.join(unknown)}; it has {', '.join(names)}")
    return kind(**given)


def between(low: float, high: float, *, whole: bool = False) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A validator of an option: a number from ``low`` to ``high``, or a whole one."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not low <= value <= high or (whole and value != int(value)):
            what = "a whole number" if whole else "a number"
            raise OptionError(
                f"{type(instance).__name__}: {attribute.name} = {value!r}: must be {what} from {low:g} to {high:g}"
            )

    return check


def one_of(*values: Any) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A validator of an option: one of some values."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in values):
            raise OptionError(
                f"{type(instance).__name__}: {attribute.name} = {value!r}: must be one of "
                f"{', '.join(map(repr, values))}"
            )

    return check


def searchable(search: Search, engine: str) -> bool:
    """Whether there is a pixel to search at all; images too small for another package's engine are refused.

    Raises
    ------
    OptionError
        If a side is shorter than 8 pixels.
    """
    if min(search.data.shape) < _SMALLEST:
        raise OptionError(
            f"method={engine!r} needs at least {_SMALLEST} × {_SMALLEST} pixels, not {search.data.shape}: "
            "use method='matched'"
        )
    return not search.unusable.all()


def nothing(level: NDArray[np.float32]) -> Found:
    """No source."""
    none = np.empty(0)
    return Found(none, none, snr=none, flux=none, flux_error=none, peak=none, level=level)


def photutils_background(search: Search) -> NDArray[np.float32]:
    """The level of ``photutils.background.Background2D`` with cells of ``search.mesh`` pixels.

    Its defaults (SExtractor's estimator, 3 × 3 median filter, clipping at 3 σ) but for cells with masked pixels: they
    count as long as 15 % is usable, as in :func:`larun.algorithms.background.background`. larun's own level where no
    cell is left.
    """
    from photutils.background import Background2D

    cell = tuple(min(search.mesh, size) for size in search.data.shape)
    data = np.where(search.unusable, np.float32(0), search.data)
    try:
        made = Background2D(data, cell, mask=search.unusable, exclude_percentile=85.0).background
    except ValueError:  # its cells are not quite those of larun
        made = search.level
    return np.array(made, np.float32, order="C")


def correlated_factor(weights: NDArray[np.float64], acf: NDArray[np.float64] | None) -> float:
    """How much correlated noise raises the noise of a weighted sum over that of white noise; 1 without ``acf``.

    Examples
    --------
    >>> acf = np.zeros((3, 3))
    >>> acf[1] = (0.5, 1, 0.5)
    >>> round(correlated_factor(np.ones((1, 2)), acf) ** 2, 12)  # (1 + 1 + 2 * 0.5) / 2
    1.5
    """
    if acf is None:
        return 1.0
    reach = acf.shape[0] // 2
    padded = np.pad(weights, reach)
    total = 0.0
    for (j, i), value in np.ndenumerate(acf):
        total += value * float((padded[j : j + weights.shape[0], i : i + weights.shape[1]] * weights).sum())
    return math.sqrt(max(total, 0.0) / float((weights**2).sum()))


def footprint_error(
    search: Search, pixels: NDArray[Any], flux: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any]
) -> NDArray[np.float64]:
    """1 sigma of a plain sum over so many pixels: the noise of the sky at the place, and photon noise of the flux.

    Noise that is correlated is treated as that of a square of as many pixels.
    """
    ny, nx = search.data.shape
    row, column = (np.clip(np.rint(values), 0, size - 1).astype(int) for values, size in ((y, ny), (x, nx)))
    factor = np.ones(len(pixels))
    if search.acf is not None:
        sides = np.maximum(1, np.rint(np.sqrt(pixels))).astype(int)
        known = {int(side): correlated_factor(np.ones((side, side)), search.acf) for side in np.unique(sides)}
        factor = np.array([known[int(side)] for side in sides])
    sky = pixels * search.noise[row, column].astype(np.float64) ** 2 * factor**2
    return np.asarray(np.sqrt(sky + np.maximum(flux, 0.0) / search.gain))
