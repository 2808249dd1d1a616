"""What detection and photometry compute, as tables: the thin layer between the model and the array functions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.annulus import Annulus, Neighbours, annulus_sky, mask_radius
from larun.algorithms.aperture import Photometry, photometry
from larun.algorithms.background import Background
from larun.algorithms.detect import Detections
from larun.algorithms.growth import CurveOfGrowth, aperture_correction, curve_of_growth, growth_stars
from larun.errors import CatalogError, OptionError
from larun.model.measure import ellipses, schema
from larun.model.measure.ellipses import KronOptions, kron_options
from larun.model.measure.positions import catalogue_frame, sky_positions
from larun.model.planes import correlation_around, total_variance

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = [
    "RADII",
    "ApertureOptions",
    "detected",
    "growth",
    "photometered",
    "placed",
    "recorded",
    "recorded_forced",
    "with_sky_coordinates",
]


#: Default aperture radii, in units of the FWHM.
RADII = (1.0, 1.5, 2.5, 4.0)


def _radii(value: Any) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in np.atleast_1d(np.asarray(value, dtype=float)))
    except (TypeError, ValueError) as error:
        raise OptionError(f"radii {value!r}: must be numbers") from error


def _annulus_radii(value: Any) -> tuple[float, ...] | None:
    return None if value is None else _radii(value)


def recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``photometer`` with their defaults, which depend on the aperture, and without what it lacks.

    Raises
    ------
    OptionError
        If they do not fit the aperture or the method.
    """
    from larun.model.pointspread import photometry as by_psf

    if by_psf.is_psf(arguments["method"]):
        only = {"radii": None, "unit": "fwhm", "annulus": None, "aperture": "circular"}
        return by_psf.recorded(arguments, only)
    arguments.pop("method")
    aperture, given = arguments.pop("aperture"), arguments.pop("options")
    options = kron_options(aperture, given)
    if aperture == "kron":
        if arguments["radii"] is not None:
            raise OptionError(f"radii={arguments['radii']!r}: a Kron aperture finds its own size; leave them out")
        arguments.pop("radii")
    elif arguments["radii"] is None:
        arguments["radii"] = RADII
    if arguments["sky"] is None:
        # an annulus fit for stars lies in the wings of a galaxy
        arguments["sky"] = "annulus" if aperture == "circular" else "background"
    arguments |= {} if aperture == "circular" else {"aperture": aperture}
    return arguments | ({} if options is None else {"options": options})


def recorded_forced(arguments: dict[str, Any]) -> dict[str, Any]:
    """As :func:`recorded`, of forced photometry, whose apertures are circles."""
    from larun.model.pointspread import photometry as by_psf

    if by_psf.is_psf(arguments["method"]):
        return by_psf.recorded(arguments, {"radii": RADII, "unit": "fwhm", "annulus": None})
    arguments.pop("method")
    if arguments.pop("options") is not None:
        raise OptionError("options: are for method='psf'; apertures of given positions have none")
    return arguments | {"sky": "annulus" if arguments["sky"] is None else arguments["sky"]}


@attrs.frozen(kw_only=True)
class ApertureOptions:
    """Options of aperture photometry; see :meth:`larun.model.catalog.SourceCatalog.photometer`."""

    radii: tuple[float, ...] = attrs.field(default=RADII, converter=_radii)
    unit: str
    sky: str
    annulus: tuple[float, ...] | None = attrs.field(converter=_annulus_radii)
    aperture: str = "circular"
    options: KronOptions | None = None

    def __attrs_post_init__(self) -> None:
        if self.unit not in ("fwhm", "pixel"):
            raise OptionError(f"unit={self.unit!r}: must be 'fwhm' or 'pixel'")
        if self.sky == "fitted":
            raise OptionError("sky='fitted': is for method='psf'; apertures take 'annulus', 'background' or 'none'")
        if self.sky not in ("annulus", "background", "none"):
            raise OptionError(f"sky={self.sky!r}: must be 'annulus', 'background' or 'none'")
        if not self.radii or not all(0 < radius < np.inf for radius in self.radii):
            raise OptionError(f"radii={self.radii}: must be positive numbers")
        if len(set(self.radii)) != len(self.radii):
            raise OptionError(f"radii={self.radii}: each only once")
        if self.annulus is not None and (len(self.annulus) != 2 or not self.annulus[0] >= max(self.radii)):
            raise OptionError(
                f"annulus={self.annulus}: must be an inner and an outer radius (in {self.unit}), "
                f"the inner one not below the largest aperture, {max(self.radii):g}"
            )

    def scaled(self, fwhm: float) -> tuple[tuple[float, ...], tuple[float, float]]:
        """Sorted aperture radii and the annulus, in pixels."""
        factor = fwhm if self.unit == "fwhm" else 1.0
        radii = tuple(sorted(radius * factor for radius in self.radii))
        if self.annulus is not None:
            return radii, (self.annulus[0] * factor, self.annulus[1] * factor)
        inner = max(5 * fwhm, radii[-1] + fwhm)  # outside the wings, and outside whatever is measured
        return radii, (inner, inner + 3 * fwhm)


def detected(image: SkyImage, found: Detections, fwhm: float, sky: Background) -> QTable:
    """The table of a detection, with sky coordinates where the image has a WCS."""
    values: dict[str, Any] = found._asdict()
    values["id"] = np.arange(1, len(found.x) + 1)
    table = schema.table(schema.DETECTED, values | with_sky_coordinates(image, found.x, found.y), image.unit)
    table.meta = {
        "schema": schema.VERSION,
        "fwhm": float(fwhm),
        "sky_level": float(np.median(sky.mesh_level)),
        "sky_rms": float(np.median(sky.mesh_rms)),
        **_when(image),
    }
    return table


def _when(image: SkyImage) -> dict[str, Any]:
    """What is known of the time of exposure; nothing for an image that is no single exposure."""
    time = getattr(image, "time", None)
    return {} if time is None else {name: value for name, value in time.to_dict().items() if value is not None}


def with_sky_coordinates(image: SkyImage, x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, Any]:
    """``ra`` and ``dec`` in degrees; empty without a WCS, or where it is in a frame that astropy does not know."""
    wcs = image.wcs
    if wcs is None:
        return {}
    try:
        frame = catalogue_frame(wcs).name
    except ValueError:
        return {}
    ra, dec = sky_positions(image, np.asarray(x, float), np.asarray(y, float), frame)
    return {"ra": ra, "dec": dec}


def photometered(table: QTable, image: SkyImage, options: ApertureOptions, *, neighbours: QTable) -> QTable:
    """The table with the columns of aperture photometry added or renewed."""
    fwhm = float(neighbours.meta["fwhm"])
    radii, annulus = options.scaled(fwhm)
    x, y = np.asarray(table["x"], dtype=float), np.asarray(table["y"], dtype=float)
    made = table.copy()
    sky, values = _sky(image, x, y, options, annulus, neighbours)
    if options.aperture != "circular":
        return _in_ellipses(made, image, options, sky, values)
    acf = correlation_around(image, x, y, radii)
    measured = photometry(image.data, total_variance(image), image.flags, x, y, radii, sky=sky, acf=acf)
    columns, more = _aperture_columns(measured, radii)
    total, meta = _total(measured, radii, x, y, fwhm)
    fresh = schema.table((*schema.SKY, *columns, *schema.TOTAL), values | more | total, image.unit)
    old = {column.name for column in (*schema.SKY, *schema.APERTURE, *schema.TOTAL)}
    # what was calibrated is that of the magnitudes that go
    old |= {f"mag_{band}{end}" for band in made.meta.pop("zero_points", ()) for end in ("", "_error")}
    made.remove_columns([n for n in made.colnames if n in old or n.rpartition("_")[0] in old])
    for name in fresh.colnames:
        made[name] = fresh[name]
    made.meta |= {"aperture_radii": list(radii), "sky": options.sky, **meta}
    if options.sky == "annulus":
        made.meta["annulus_radii"] = list(annulus)
    return made


def _in_ellipses(made: QTable, image: SkyImage, options: ApertureOptions, sky: Any, values: dict[str, Any]) -> QTable:
    """The table with the columns of elliptical or Kron apertures added or renewed."""
    places = (np.asarray(made["x"], dtype=float), np.asarray(made["y"], dtype=float))
    own = ellipses.shapes(made, image, image.background())
    meta: dict[str, Any] = {f"{options.aperture}_sky": options.sky}
    if options.options is not None:
        columns, more = ellipses.kron(image, places, own, options.options, sky)
        meta |= {f"kron_{name}": value for name, value in attrs.asdict(options.options).items()}
    else:
        columns, more = ellipses.elliptical(image, places, own, options.radii, options.unit, sky)
        meta |= {"elliptical_radii": sorted(options.radii), "elliptical_unit": options.unit}
        old = {column.name for column in schema.ELLIPTICAL}
        made.remove_columns([name for name in made.colnames if name.rpartition("_")[0] in old])
    fresh = schema.table((*schema.SKY, *columns), values | more, image.unit)
    for name in fresh.colnames:
        made[name] = fresh[name]
    made.meta |= meta
    return made


def growth(table: QTable, image: SkyImage, options: ApertureOptions) -> CurveOfGrowth:
    """The curve of growth of the sources of a table on their image."""
    fwhm = float(table.meta["fwhm"])
    radii, annulus = options.scaled(fwhm)
    x, y = np.asarray(table["x"], dtype=float), np.asarray(table["y"], dtype=float)
    sky, _ = _sky(image, x, y, options, annulus, table)
    acf = correlation_around(image, x, y, radii)
    measured = photometry(image.data, total_variance(image), image.flags, x, y, radii, sky=sky, acf=acf)
    if measured.flux_error is None:
        raise CatalogError(f"{image!r} has no variance: calibrate it before a curve of growth can weigh its stars")
    usable = growth_stars(measured.flux, measured.flux_error, measured.flags, x, y, separation=radii[-1] + 2 * fwhm)
    return curve_of_growth(measured.flux, measured.flux_error, np.asarray(radii), usable=usable)


def _sky(
    image: SkyImage,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    options: ApertureOptions,
    annulus: tuple[float, float],
    neighbours: QTable,
) -> tuple[Any, dict[str, Any]]:
    """The sky for photometry, and the columns that tell of it."""
    if options.sky == "none":
        return None, {}
    background = image.background()
    if options.sky == "background":
        return background.level, {}
    sky = _annulus(image, background, x, y, annulus, neighbours)
    return sky, {"sky": sky.level, "sky_error": sky.error}


def _annulus(
    image: SkyImage,
    background: Background,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    annulus: tuple[float, float],
    neighbours: QTable,
) -> Any:
    fwhm = float(neighbours.meta["fwhm"])
    if "flux" not in neighbours.colnames:  # a catalogue from elsewhere need not say how bright its sources are
        neighbours = image.detect(fwhm=fwhm)._table
    noise = float(np.median(background.mesh_rms))
    stars = Neighbours(
        np.asarray(neighbours["x"], dtype=float),
        np.asarray(neighbours["y"], dtype=float),
        mask_radius(np.asarray(neighbours["flux"], dtype=float), fwhm, noise)
        if noise > 0
        else np.zeros(len(neighbours)),
    )
    found = annulus_sky(
        image.data,
        image.flags,
        x,
        y,
        Annulus(inner=annulus[0], outer=annulus[1]),
        neighbours=stars,
        acf=image.noise_acf,
    )
    if not np.isnan(found.level).any():
        return found
    # Where stars leave too little of the annulus, the background map is what there is.
    ny, nx = image.shape
    inside = np.isfinite(x) & np.isfinite(y)
    column = np.clip(np.where(inside, x, 0).round().astype(int), 0, nx - 1)
    row = np.clip(np.where(inside, y, 0).round().astype(int), 0, ny - 1)
    return found.filled(background.level[row, column].astype(float), background.rms[row, column] / 64.0)


def _aperture_columns(
    measured: Photometry, radii: tuple[float, ...]
) -> tuple[tuple[schema.Column, ...], dict[str, NDArray[Any]]]:
    blank = np.full(measured.flux.shape, np.nan)
    planes = {
        "aperture_flux": measured.flux,
        "aperture_flux_error": blank if measured.flux_error is None else measured.flux_error,
        "mag": measured.magnitude,
        "mag_error": blank if measured.magnitude_error is None else measured.magnitude_error,
        "area_fraction": measured.fraction,
        "aperture_flags": measured.flags,
    }
    columns, values = [], {}
    for index, radius in enumerate(radii):
        for column in schema.APERTURE:
            name = f"{column.name}_{index + 1}"
            columns.append(column._replace(name=name, description=column.description.format(radius=radius)))
            values[name] = planes[column.name][:, index]
    return tuple(columns), values


def _total(
    measured: Photometry, radii: tuple[float, ...], x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Magnitudes corrected from the smallest aperture, and the correction with its common error.

    It goes to the largest aperture within which at least three bright stars are alone; ``meta`` says which.
    """
    none = np.full(len(x), np.nan)
    total = {"mag_total": none, "mag_total_error": none}
    meta: dict[str, Any] = {
        "aperture_correction": None,
        "aperture_correction_error": None,
        "aperture_correction_stars": 0,
        "aperture_correction_radius": None,
    }
    if measured.flux_error is None or measured.magnitude_error is None:
        return total, meta
    found = None
    for count in range(len(radii), 1, -1):  # in a crowd no star is alone within the largest aperture
        flux, error, flags = (plane[:, :count] for plane in (measured.flux, measured.flux_error, measured.flags))
        usable = growth_stars(flux, error, flags, x, y, separation=radii[count - 1] + fwhm)
        with contextlib.suppress(CatalogError):  # too few bright, lonely stars
            found = aperture_correction(flux, error, np.asarray(radii[:count]), usable=usable)
            break
    if found is None:
        return total, meta
    meta = {
        "aperture_correction": [float(value) for value in found.correction],
        "aperture_correction_error": [float(value) for value in found.error],
        "aperture_correction_stars": int(found.stars),
        "aperture_correction_radius": float(found.radii[-1]),
    }
    total = {
        "mag_total": measured.magnitude[:, 0] + found.correction[0],
        "mag_total_error": measured.magnitude_error[:, 0],
    }
    return total, meta


def placed(image: SkyImage, x: NDArray[np.float64], y: NDArray[np.float64], found: QTable) -> QTable:
    """A table of given positions, ready to be measured."""
    values: dict[str, Any] = {"id": np.arange(1, len(x) + 1), "x": x, "y": y}
    table = schema.table(schema.DETECTED, values | with_sky_coordinates(image, x, y), image.unit)
    table.meta = dict(found.meta)
    return table
