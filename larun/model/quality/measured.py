"""``Quality``: how sharp, round and deep an image is, each number named for what it is."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.completeness import flux_limit
from larun.algorithms.fwhm import AlikeStars, stars_of_one_size
from larun.algorithms.psf import moffat_psf
from larun.algorithms.robust import median_error
from larun.algorithms.starquality import FieldFit, StarShapes, core_fluxes, fit_field, light_radii, star_shapes
from larun.errors import LarunWarning, OptionError
from larun.model.measure.detecting import filtered_noise
from larun.model.planes import pixel_scale

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = ["Quality", "quality_of"]

_FEWEST = 5  # stars
_REACH = 3.5  # FWHM to each side of the star whose limit is computed
_CELL_STARS = 3


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Quality:
    """How good an image is; :meth:`larun.SkyImage.quality` measures it. What is not known is NaN.

    Parameters
    ----------
    name : str
        Of the image.
    shape : tuple of int
        Rows and columns.
    unit : str
        Of fluxes and sky.
    stars : int
        Bright, unsaturated stars that agree in size and shape: the rest of the numbers is theirs.
    fwhm, fwhm_error : float
        Median of Moffat profiles fitted to each star, pixels, before the pixel blurred it; its standard error.
    beta : float
        Exponent of these profiles.
    fwhm_gaussian : float
        Median of Gaussians fitted to the same pixels. Stars have wings, so it is too wide; given since it is what many
        programs call the FWHM.
    fwhm_moments : float
        Median by adaptive moments: what :meth:`larun.SkyImage.star_size` gives.
    half_light : float
        Radius in pixels that holds half of the light within 4 FWHM by the curve of growth: of the star on its pixels,
        no profile assumed.
    e1, e2 : float
        Medians of the components of the ellipticity (a - b) / (a + b): times cos 2 theta and sin 2 theta.
    sky, noise : float
        Median level of the sky, and of its noise in a pixel.
    limit : float
        Flux of a star that is 5 sigma behind the filter of the detection: half of such stars are found.
    saturated : int
        Pixels.
    exposure : float or None
        Seconds.
    scale : float or None
        Arcseconds a pixel, where there is a WCS.
    field : FieldFit or None
        How the FWHM changes over the image: tilt and curvature; None with fewer than 20 stars.
    """

    name: str
    shape: tuple[int, int]
    unit: str
    stars: int
    fwhm: float
    fwhm_error: float
    beta: float
    fwhm_gaussian: float
    fwhm_moments: float
    half_light: float
    e1: float
    e2: float
    sky: float
    noise: float
    limit: float
    saturated: int
    exposure: float | None
    scale: float | None
    field: FieldFit | None
    _table: QTable

    @property
    def table(self) -> QTable:
        """Each star: x, y, snr, flux, widths, ellipticity, chi2; a copy, by falling S/N."""
        return self._table.copy()

    @property
    def ellipticity(self) -> float:
        """1 - b/a of a star with the median components: what all stars share, as by a trailed exposure."""
        size = math.hypot(self.e1, self.e2)
        return 2 * size / (1 + size)

    @property
    def position_angle(self) -> float:
        """Of the long axis, degrees from +x towards +y, -90 to 90."""
        return math.degrees(math.atan2(self.e2, self.e1)) / 2

    @property
    def limiting_magnitude(self) -> float:
        """-2.5 log10 of :attr:`limit`: on the instrumental scale of a catalogue's ``mag`` columns."""
        return -2.5 * math.log10(self.limit) if self.limit > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name: what conditions (``"fwhm < 3 and ellipticity < 0.15"``) can use."""
        field = self.field
        return {
            "name": self.name,
            "stars": self.stars,
            "fwhm": self.fwhm,
            "fwhm_error": self.fwhm_error,
            "fwhm_arcsec": math.nan if self.scale is None else self.fwhm * self.scale,
            "beta": self.beta,
            "fwhm_gaussian": self.fwhm_gaussian,
            "fwhm_moments": self.fwhm_moments,
            "half_light": self.half_light,
            "ellipticity": self.ellipticity,
            "position_angle": self.position_angle,
            "e1": self.e1,
            "e2": self.e2,
            "tilt": math.nan if field is None else field.tilt,
            "tilt_error": math.nan if field is None else field.tilt_error,
            "curvature": math.nan if field is None else field.curvature,
            "curvature_error": math.nan if field is None else field.curvature_error,
            "sky": self.sky,
            "noise": self.noise,
            "limit": self.limit,
            "limiting_magnitude": self.limiting_magnitude,
            "saturated": self.saturated,
            "exposure": math.nan if self.exposure is None else self.exposure,
        }

    def map(self, cells: int = 4) -> QTable:
        """Width and shape in cells of the field.

        Parameters
        ----------
        cells : int
            Along each axis.

        Returns
        -------
        QTable
            One row a cell: ``x``, ``y`` of its middle (pixels), ``stars``, and the medians ``fwhm``, ``e1``, ``e2``,
            ``ellipticity`` (1 - b/a of these components); NaN with fewer than 3 stars.

        Raises
        ------
        OptionError
            If ``cells`` is no positive number.
        """
        from astropy.table import QTable

        if not 1 <= cells <= 64:
            raise OptionError(f"cells={cells}: must be 1 to 64")
        x, y = (np.asarray(self._table[name]) for name in ("x", "y"))
        column = np.clip(((x + 0.5) / self.shape[1] * cells).astype(int), 0, cells - 1)
        row = np.clip(((y + 0.5) / self.shape[0] * cells).astype(int), 0, cells - 1)
        rows = []
        for j in range(cells):
            for i in range(cells):
                mine = (column == i) & (row == j)
                middle = (i + 0.5) / cells * self.shape[1] - 0.5, (j + 0.5) / cells * self.shape[0] - 0.5
                fwhm, e1, e2 = (
                    _median(np.asarray(self._table[name])[mine], _CELL_STARS) for name in ("fwhm", "e1", "e2")
                )
                size = math.hypot(e1, e2)
                rows.append((*middle, int(mine.sum()), fwhm, e1, e2, 2 * size / (1 + size)))
        return QTable(rows=rows, names=("x", "y", "stars", "fwhm", "e1", "e2", "ellipticity"))

    def __repr__(self) -> str:
        return f"<Quality of {self.name}: FWHM {self.fwhm:.2f} px of {self.stars} stars>"

    def __str__(self) -> str:
        pixels = "" if self.scale is None else f" = {self.fwhm * self.scale:.2f} arcsec"
        lines = [
            f"{self.name}: {self.stars} stars",
            f"  FWHM        {self.fwhm:.3f} ± {self.fwhm_error:.3f} px{pixels} (Moffat, beta {self.beta:.2f})",
            f"              {self.fwhm_gaussian:.3f} px by Gaussians, {self.fwhm_moments:.3f} px by moments",
            f"  light       half of it within {self.half_light:.2f} px",
            f"  ellipticity {self.ellipticity:.3f} at {self.position_angle:.0f} deg",
        ]
        if self.field is not None:
            field = self.field
            lines.append(
                f"  field       tilt {field.tilt:.3f} ± {field.tilt_error:.3f} px towards {field.angle:.0f} deg, "
                f"corners {field.curvature:+.3f} ± {field.curvature_error:.3f} px"
            )
        lines.append(f"  sky         {self.sky:.2f}, noise {self.noise:.2f} {self.unit} a pixel")
        lines.append(f"  depth       5 sigma at {self.limit:.1f} {self.unit}, {self.limiting_magnitude:.2f} mag")
        return "\n".join(lines)


def quality_of(image: SkyImage) -> Quality:
    """Measure how good an image is; see :meth:`larun.SkyImage.quality`."""
    sky = image.background()
    planes = (image.data, sky.level, sky.variance, image.flags)
    name = image.provenance.name or repr(image)
    found = stars_of_one_size(planes)
    noise = float(np.sqrt(np.median(sky.variance[::8, ::8])))
    about: dict[str, Any] = {
        "name": name,
        "shape": image.shape,
        "unit": str(image.unit),
        "sky": float(np.median(sky.mesh_level)),
        "noise": noise,
        "saturated": int(np.count_nonzero(image.flags & fl.SATURATED)),
        "exposure": getattr(image, "exposure", None),
        "scale": pixel_scale(image),
    }
    if found is None:
        warnings.warn(f"{image!r}: too few stars to say how wide they are", LarunWarning, stacklevel=3)
        nothing = AlikeStars(*(np.empty(0),) * 7)
        shapes = StarShapes(*(np.empty(0),) * 6, math.nan)
        return _told(about, nothing, shapes, np.empty(0), math.nan, None)
    shapes = star_shapes(planes, found, gain=image.detector.amplifiers[0].gain or 1.0)
    (radius,), _ = light_radii(planes, found, (0.5,))
    flux = core_fluxes(planes, found, _median(found.fwhm))
    field = fit_field(found.x, found.y, shapes.fwhm, shapes.fwhm_error, image.shape)
    told = _told(about, found, shapes, flux, radius, field)
    if image.noise_acf is None or not math.isfinite(told.limit):
        return told
    return attrs.evolve(told, limit=told.limit * filtered_noise(image, told.fwhm_moments))  # its noise hangs together


def _told(
    about: dict[str, Any],
    stars: AlikeStars,
    shapes: StarShapes,
    flux: NDArray[np.float64],
    radius: float,
    field: FieldFit | None,
) -> Quality:
    from astropy.table import QTable

    width = _median(shapes.fwhm)
    known = shapes.fwhm[np.isfinite(shapes.fwhm)]
    table = QTable(
        {
            "x": stars.x,
            "y": stars.y,
            "snr": stars.snr,
            "flux": flux,
            "fwhm": shapes.fwhm,
            "fwhm_error": shapes.fwhm_error,
            "fwhm_gaussian": shapes.fwhm_gaussian,
            "fwhm_moments": stars.fwhm,
            "e1": shapes.e1,
            "e2": shapes.e2,
            "chi2": shapes.chi2,
        }
    )
    for name in table.colnames:
        table[name].info.format = ".4g" if name in ("snr", "flux", "chi2") else ".3f"
    table["flux"].info.description = "within twice the FWHM as the pixel has blurred it"
    return Quality(
        **about,
        stars=int(stars.x.size),
        fwhm=width,
        fwhm_error=median_error(known) if known.size >= _FEWEST else math.nan,
        beta=shapes.beta,
        fwhm_gaussian=_median(shapes.fwhm_gaussian),
        fwhm_moments=_median(stars.fwhm),
        half_light=radius,
        e1=_median(shapes.e1),
        e2=_median(shapes.e2),
        limit=_limit(width, shapes.beta, _median(stars.fwhm), about["noise"]),
        field=field,
        table=table,
    )


def _limit(fwhm: float, beta: float, filtered: float, noise: float) -> float:
    """Flux of a Moffat star that is 5 sigma behind the Gaussian filter that detection takes."""
    if not (np.isfinite(fwhm + beta) and noise > 0):
        return math.nan
    half = max(4, math.ceil(_REACH * fwhm))
    side = 2 * half + 1
    star = moffat_psf(fwhm, beta).draw((side, side), [half], [half], [1.0])
    return flux_limit(star, filtered, sigma=noise, threshold=5.0)


def _median(values: NDArray[np.float64], fewest: int = _FEWEST) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size >= fewest else math.nan
