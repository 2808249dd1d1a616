"""Photometry in ellipses that follow each source: of a given size, or of Kron's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.annulus import AnnulusSky
from larun.algorithms.aperture import Photometry, above_sky
from larun.algorithms.background import Background
from larun.algorithms.detect import FINDING_MASK, checked_planes
from larun.algorithms.ellipse import ellipse_sums, kron_radius
from larun.algorithms.engines import between, options_of
from larun.algorithms.peaks import FWHM_OF_SIGMA, PIXEL_VARIANCE
from larun.algorithms.shapes import full_width, measure, position_angle
from larun.errors import OptionError
from larun.model.measure import schema
from larun.model.planes import correlation_around, total_variance

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = ["APERTURES", "KronOptions", "Shapes", "elliptical", "kron", "kron_options", "shapes", "values_of"]

APERTURES = ("circular", "elliptical", "kron")
#: Sources whose size the detection could not measure are measured again up to this many FWHM of a star.
_LARGEST = 10.0


@attrs.frozen(kw_only=True)
class KronOptions:
    """How Kron apertures are made; the defaults are those of SExtractor's FLUX_AUTO.

    The ellipse they count from is that of weighted moments: where wings are wide it is smaller than SExtractor's.

    Parameters
    ----------
    factor : float
        Semi-axes of the aperture, in units of Kron's radius.
    minimum : float
        Least semi-axes, in units of the source's 1 sigma ellipse: for faint sources, whose Kron radius is noise.
    reach : float
        Kron's radius is measured within this many 1 sigma ellipses.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    factor: float = attrs.field(default=2.5, validator=between(0.1, 100))
    minimum: float = attrs.field(default=3.5, validator=between(0, 100))
    reach: float = attrs.field(default=6.0, validator=between(1, 100))


def kron_options(aperture: Any, given: Any) -> KronOptions | None:
    """The options of the kind of aperture: of Kron's; None for the others, which have none.

    Raises
    ------
    OptionError
        If the kind is unknown, or has no such options.
    """
    if aperture not in APERTURES:
        raise OptionError(f"aperture={aperture!r}: must be one of {', '.join(map(repr, APERTURES))}")
    if aperture == "kron":
        return options_of(KronOptions, "kron", given)
    if given:
        raise OptionError(f"options={given!r}: aperture={aperture!r} has none, only 'kron' has them")
    return None


class Shapes(NamedTuple):
    """The 1 sigma ellipse of each source as the pixels show it: semi-axes in pixels, angle in degrees."""

    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    theta: NDArray[np.float64]


def shapes(table: QTable, image: SkyImage, background: Background) -> Shapes:
    """The ellipse of each source from the columns of its detection.

    A source whose size is not known there (it is more than 3 times as large as a star, say) is measured again with a
    larger reach; one that cannot be measured at all gets the circle of a star.
    """
    fwhm, ellipticity, theta = (values_of(table, name) for name in ("fwhm", "ellipticity", "theta"))
    star = float(table.meta["fwhm"])
    unknown = np.flatnonzero(~(np.isfinite(fwhm) & np.isfinite(ellipticity) & np.isfinite(theta)))
    if unknown.size:
        x, y = (np.asarray(table[name], np.float64)[unknown] for name in ("x", "y"))
        fwhm[unknown], ellipticity[unknown], theta[unknown] = _again(image, background, x, y, star)
    lost = ~(np.isfinite(fwhm) & np.isfinite(ellipticity) & np.isfinite(theta))
    fwhm[lost], ellipticity[lost], theta[lost] = star, 0.0, 0.0
    # the pixel blurs what is seen, along both axes alike
    sigma2, ratio = (fwhm / FWHM_OF_SIGMA) ** 2, np.clip(1 - ellipticity, 0.05, 1.0)
    return Shapes(np.sqrt(sigma2 / ratio + PIXEL_VARIANCE), np.sqrt(sigma2 * ratio + PIXEL_VARIANCE), theta)


def values_of(table: QTable, name: str) -> NDArray[np.float64]:
    """A fresh array of a column's plain numbers; NaN where a catalogue of given places lacks it."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return np.array(getattr(table[name], "value", table[name]), np.float64)


def _again(
    image: SkyImage, background: Background, x: NDArray[np.float64], y: NDArray[np.float64], star: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    ny, nx = image.shape
    planes = checked_planes(image.data, background.level, background.variance, image.flags)
    row, column = (np.clip(np.rint(np.nan_to_num(v)), 0, size - 1).astype(np.int64) for v, size in ((y, ny), (x, nx)))
    found = measure(planes, row * nx + column, mask=int(FINDING_MASK), fwhm=star, gain=1.0, growth=_LARGEST)
    with np.errstate(invalid="ignore"):
        sigma, ellipticity, theta = position_angle(found.xx, found.xy, found.yy)
        return full_width(sigma, np.where(np.isfinite(found.profile), found.profile, 1.0)), ellipticity, theta


def elliptical(
    image: SkyImage,
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    own: Shapes,
    radii: tuple[float, ...],
    unit: str,
    sky: AnnulusSky | NDArray[np.float32] | None,
) -> tuple[tuple[schema.Column, ...], dict[str, NDArray[Any]]]:
    """Columns of ellipses: ``radii`` in units of each source's FWHM, or of pixels along their geometric mean."""
    major, minor = own.major[:, None], own.minor[:, None]
    factors = np.sort(np.asarray(radii, np.float64))[None, :]
    scale = factors * FWHM_OF_SIGMA if unit == "fwhm" else factors / np.sqrt(major * minor)
    measured = _measured(image, places, (scale * major, scale * minor, own.theta), sky)
    columns, values = [*schema.ELLIPSE], _ellipse_values(own)
    what = "{:.3f} FWHM of the source" if unit == "fwhm" else "{:.3f} pix (geometric mean)"
    for index, factor in enumerate(factors[0]):
        for column in schema.ELLIPTICAL:
            name = f"{column.name}_{index + 1}"
            columns.append(column._replace(name=name, description=column.description.format(size=what.format(factor))))
            values[name] = _plane(measured, column.name.removeprefix("ellipse_"))[:, index]
    return tuple(columns), values


def kron(
    image: SkyImage,
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    own: Shapes,
    options: KronOptions,
    sky: AnnulusSky | NDArray[np.float32] | None,
) -> tuple[tuple[schema.Column, ...], dict[str, NDArray[Any]]]:
    """Columns of one Kron aperture a source."""
    x, y = places
    data = image.data
    if isinstance(sky, np.ndarray):
        with np.errstate(invalid="ignore"):  # inf − inf is left out like any pixel that is not finite
            data = data - sky
    level = sky.level if isinstance(sky, AnnulusSky) else np.zeros(len(x))
    radius = kron_radius(data, image.flags, x, y, own, level=level, reach=options.reach)
    scale = np.fmax(options.factor * radius, options.minimum)  # NaN: the least there is
    scale = np.where(scale > 0, scale, np.nan)
    axes = ((scale * own.major)[:, None], (scale * own.minor)[:, None], own.theta)
    measured = _measured(image, places, axes, sky)
    values = _ellipse_values(own) | {"kron_radius": radius}
    for column in schema.KRON[1:]:
        values[column.name] = _plane(measured, column.name.removeprefix("kron_"))[:, 0]
    return (*schema.ELLIPSE, *schema.KRON), values


def _measured(
    image: SkyImage,
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    axes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    sky: AnnulusSky | NDArray[np.float32] | None,
) -> Photometry:
    data = image.data
    if isinstance(sky, np.ndarray):
        with np.errstate(invalid="ignore"):
            data = data - sky
    size = float(np.median(np.sqrt(axes[0] * axes[1]))) if axes[0].size else 1.0
    acf = correlation_around(image, *places, [size])
    acf = acf if acf is None or acf.ndim == 2 else acf[:, 0]
    sums = ellipse_sums(data, total_variance(image), image.flags, *places, axes, acf=acf)
    return above_sky(sums, sky if isinstance(sky, AnnulusSky) else None)


def _ellipse_values(own: Shapes) -> dict[str, NDArray[Any]]:
    return {"semi_major": own.major, "semi_minor": own.minor, "ellipse_theta": own.theta}


def _plane(measured: Photometry, name: str) -> NDArray[Any]:
    blank = np.full(measured.flux.shape, np.nan)
    planes: dict[str, NDArray[Any] | None] = {
        "flux": measured.flux,
        "flux_error": measured.flux_error,
        "mag": measured.magnitude,
        "mag_error": measured.magnitude_error,
        "area_fraction": measured.fraction,
        "flags": measured.flags,
    }
    found = planes[name]
    return blank if found is None else found
