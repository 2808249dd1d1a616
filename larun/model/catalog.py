"""``SourceCatalog``: a table of sources with the image they were measured on and a record of how."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, OptionError
from larun.flags import TABLE
from larun.model.catalogfiles import CatalogFiles
from larun.model.image import piped
from larun.provenance import Provenance, operation, recording

if TYPE_CHECKING:
    from astropy.units import Quantity

    from larun.algorithms.growth import CurveOfGrowth
    from larun.model.cutouts import Cutouts
    from larun.model.image import Image
    from larun.model.measure.ellipses import KronOptions
    from larun.model.measure.matching import Match
    from larun.model.photometry.options import ZeroPointOptions
    from larun.model.photometry.zero_point import ZeroPoint
    from larun.model.pointspread.options import PsfFitOptions
    from larun.model.psf import PSF
    from larun.model.sky import SkyImage

__all__ = ["SourceCatalog"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FLAGS = {flag.name: int(flag.value) for flag in TABLE}
GROWTH_RADII = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)


def _photometer_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    from larun.model.measure.measuring import recorded

    return recorded(arguments)


#: Operations that begin a catalogue on an image.
_BEGIN = ("detect", "detect_changes", "forced_photometry", "forced_differences", "from_table")


def _images_of(record: Provenance) -> list[str]:
    """Ids of what a catalogue was measured on."""
    return [
        parent.provenance.id
        for node in record.line()
        if node.step is not None and node.step.operation in _BEGIN
        for parent in node.parents
        if parent.role in ("self", "image")
    ]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SourceCatalog(CatalogFiles):
    """Sources and their measurements, an immutable value around an astropy ``QTable``.

    Parameters
    ----------
    table : astropy.table.QTable
        The columns of :mod:`larun.model.measure.schema`; access gives a copy.
    image : SkyImage or None
        What was measured; absent after reading or pickling, see :meth:`attach`.
    provenance : Provenance
        Where it came from.
    psf : PSF or None
        With which it was measured; absent as the image is.

    Examples
    --------
    >>> import numpy as np, larun
    >>> sky = np.random.default_rng(1).normal(100, 10, (64, 64))
    >>> sky[32, 30] += 1000
    >>> frame = larun.Frame.from_arrays(sky, variance=np.full((64, 64), 100.0), unit="electron")
    >>> len(frame.detect(fwhm=2.0))
    1
    """

    image: SkyImage | None = None
    psf: PSF | None = None

    @classmethod
    @operation("from_table", version=2, reach="global", leave_out=("table",))
    def from_table(cls, table: Any, *, image: SkyImage | None = None, columns: Mapping[str, str] | None = None) -> Self:
        """A catalogue from a table of another program.

        Columns that mean the same as one of larun's get its name and unit (``xcentroid`` becomes ``x``, ``X_IMAGE``
        becomes ``x`` and is counted from 0, ``RAJ2000`` becomes ``ra``); all others stay as they are. ``x`` and ``y``
        and ``ra`` and ``dec`` are made from each other through the WCS of the image. Fluxes in counts
        (SExtractor's name for any unit) on an image in electrons stay under their own names too.

        Parameters
        ----------
        table : astropy.table.QTable, Table, or pandas.DataFrame
            Right ascensions and other angles must state their unit.
        image : SkyImage, optional
            What the positions are on; needed to measure, and where the table has sky coordinates only.
        columns : mapping, optional
            Names of larun's columns and those of the table that hold them, where larun cannot know: ``{"x": "col3"}``.
            ``flags`` of another program are taken for larun's only if they are named here. A table that was
            ``catalog.table`` keeps its columns as they are.

        Returns
        -------
        SourceCatalog
            Its record begins with a digest of the table.

        Raises
        ------
        OptionError
            If a column is missing, holds no numbers where it must, or its unit is missing or does not convert.
        CatalogError
            If there is no way to ``x`` and ``y``.

        Examples
        --------
        >>> import larun
        >>> from astropy.table import Table
        >>> larun.SourceCatalog.from_table(Table({"X_IMAGE": [1.0], "Y_IMAGE": [11.5]}))["y"]
        <Quantity [10.5] pix>
        """
        from larun.model import foreign

        return foreign.catalog(cls, table, image, columns or {})

    # -- the next object -------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        # An image in every catalogue would cross process pipes: it stays behind.
        state = {"table": self._table, "provenance": self.provenance}
        return functools.partial(type(self), **state), ()

    def attach(self, image: SkyImage) -> Self:
        """The same catalogue with its image, after reading or pickling.

        Raises
        ------
        CatalogError
            If the image is not the one the catalogue was made from.
        """
        record = getattr(image, "provenance", None)
        if not hasattr(image, "data") or record is None or record.id not in _images_of(self.provenance):
            raise CatalogError(f"{image!r} is not the image this catalogue was measured on")
        return self._replace(image=image)

    def pipe(self, function: Callable[Concatenate[Self, _P], _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """``function(self, …)`` as a recorded step of the user's own."""
        return piped(self, function, args, kwargs)  # type: ignore[no-any-return]

    @operation("select")
    def select(self, mask: NDArray[np.bool_] | str) -> Self:
        """The sources for which ``mask`` is true.

        Parameters
        ----------
        mask : (n,) bool or str
            One truth value per source; or a condition on the columns, as plain numbers in their units:
            ``"snr > 10 and fwhm < 4 and flags & SATURATED == 0"`` (:func:`larun.expression.parse`). Pixel flags are
            known by name.

        Raises
        ------
        OptionError
            If the mask is not one boolean per source, or the text is not a condition on columns there are.
        """
        if isinstance(mask, str):
            from larun.expression import parse

            mask = parse(mask).of(self._table, constants=_FLAGS)
        chosen = np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (len(self),):
            raise OptionError(f"mask is {chosen.dtype} {chosen.shape}: must be {len(self)} booleans")
        return self._replace(table=self._table[chosen])

    @operation("match", reach="global", leave_out=("other",))
    def match(self, other: Any, *, radius: float | Quantity) -> Match:
        """Which sources are which of another list: pairs that are each other's nearest.

        Every source has at most one partner. Of two at the same distance the first in its list counts.

        Parameters
        ----------
        other : SourceCatalog, table, SkyCoord or (n, 2) array
            A table needs ``x`` and ``y``, or ``ra`` and ``dec`` (degrees where they have no unit); an array holds x
            and y, or degrees. Its record becomes a parent; positions without one are kept in the record.
        radius : float or Quantity
            Largest distance: a number is in pixels, an angle is on the sky.

        Returns
        -------
        Match
            ``catalog`` and ``other`` (the rows that have a partner, in the same order), ``index``, ``other_index``
            and ``separation``.

        Raises
        ------
        OptionError
            If the radius or the list makes no sense.
        CatalogError
            If one of the two lacks the coordinates.

        Examples
        --------
        >>> import numpy as np, larun
        >>> sky = np.zeros((64, 64)) + 100
        >>> sky[32, 30] += 1000
        >>> frame = larun.Frame.from_arrays(sky, variance=np.full((64, 64), 100.0), unit="electron")
        >>> frame.detect(fwhm=2.0).match([[5, 5], [30.5, 32]], radius=1.0).other_index
        array([1])
        """
        from larun.model.measure import matching

        made, there = matching.match(self, other, radius)
        if isinstance(getattr(other, "provenance", None), Provenance):
            recording().parent("other", other.provenance)
        else:
            recording().resolve(other=there)
        return made

    @operation("photometer", version=7, reach="global", resolve=_photometer_arguments)
    def photometer(
        self,
        radii: tuple[float, ...] | None = None,
        *,
        unit: str = "fwhm",
        sky: str | None = None,
        annulus: tuple[float, float] | None = None,
        aperture: str = "circular",
        method: str | PSF = "aperture",
        options: KronOptions | PsfFitOptions | Mapping[str, Any] | None = None,
    ) -> Self:
        """Measure the sources on their image: in apertures, or with its point-spread function.

        Parameters
        ----------
        radii : sequence of float, optional
            Aperture radii; by default 1, 1.5, 2.5 and 4. A Kron aperture finds its own.
        unit : {"fwhm", "pixel"}
            Unit of the radii and of the annulus. For ellipses: the FWHM of each source along each axis, as the pixels
            show it, or the geometric mean of the semi-axes in pixels.
        sky : {"annulus", "background", "fitted", "none"}, optional
            Local sky by a clipped median with neighbours masked; the background mesh; or no sky at all. By default the
            annulus for circles and the mesh for ellipses: an annulus fit for stars lies in the wings of a galaxy. With
            a PSF the mesh, measured again without the stars, or a constant that is fitted with each group of stars.
        annulus : (float, float), optional
            Inner and outer radius of the sky annulus, in ``unit``. By default from 5 FWHM, or 1 FWHM beyond the
            largest aperture if that is farther, and 3 FWHM wide.
        aperture : {"circular", "elliptical", "kron"}
            Circles; ellipses that follow each source's shape; or one ellipse of Kron's radius for each source, which
            holds nearly all the light of a star or a galaxy (SExtractor's FLUX_AUTO).
        method : {"aperture", "psf"} or PSF
            Apertures; or fits of the point-spread function (:meth:`larun.SkyImage.psf`, or the one that is given) to
            all sources together, so that none is measured with its neighbours' light.
        options : KronOptions, PsfFitOptions or mapping, optional
            ``factor``, ``minimum`` and ``reach`` of Kron apertures; of a PSF ``crowded`` (search beneath the stars for
            others, and add them), ``positions``, ``engine`` and more.

        Returns
        -------
        SourceCatalog
            Circles: with ``sky``, ``aperture_flux_k`` … for each radius and ``mag_total``; the aperture correction
            and its own error, common to all stars, are in ``meta``. Ellipses: with ``semi_major``, ``semi_minor``,
            ``ellipse_theta``, and ``ellipse_flux_k`` … or ``kron_radius``, ``kron_flux`` …. PSF: with ``flux_psf``,
            ``mag_psf``, ``x_psf`` … and ``psf_status``. What was measured otherwise stays.

        Raises
        ------
        CatalogError
            If the catalogue has no image: attach it first.
        OptionError
            If an option makes no sense.
        """
        from larun.model.measure import measuring

        given = {"radii": radii, "unit": unit, "sky": sky, "annulus": annulus, "aperture": aperture}
        wanted = measuring.recorded(given | {"method": method, "options": options})
        if "method" in wanted:
            from larun.model.pointspread import photometry

            made = photometry.of_catalog(self, self._require_image(), **wanted)
            recording().fit(**made.facts)
            return self._replace(table=made.table, psf=made.psf)
        chosen = measuring.ApertureOptions(**wanted)  # options are checked before a look at the pixels
        image = self._require_image()
        return self._replace(table=measuring.photometered(self._table, image, chosen, neighbours=self._table))

    @operation("cutouts", reach="global", leave_out=("planes",))
    def cutouts(
        self,
        size: int = 31,
        *,
        planes: Sequence[str] | Mapping[str, Image] | None = None,
        extent: float | None = None,
        clip: tuple[float, float] = (-10.0, 10.0),
    ) -> Cutouts:
        """Stamps of 8-bit numbers around the sources, for small classifiers; magnitudes survive.

        Each stamp loses its median, is divided by its robust scatter, goes through the inverse hyperbolic sine, is
        clipped, and becomes integers by one affine rule for all stamps.

        Parameters
        ----------
        size : int
            Pixels along each side.
        planes : sequence of str, or mapping of str to Image, optional
            Of a difference ``"science"``, ``"reference"`` and ``"difference"``, by default all three; of any other
            image ``"image"``. Or images on the same pixels, by the name they get.
        extent : float, optional
            Pixels of the image that a side covers: stamps are resampled by exact areas, with the source in the middle.
            By default they are pixels as they are, the one that holds the source in the middle.
        clip : (float, float)
            Limits of the inverse hyperbolic sine; ±10 are 11 000 times the scatter of a stamp.

        Returns
        -------
        Cutouts
            ``pixels``, int8 of shape (n, size, size, planes), with ``scale`` and ``zero_point``. Pixels beyond the
            image, or without a value, have the median of the stamp.

        Raises
        ------
        CatalogError
            If the catalogue has no image, a plane is not at hand, or a source has no position.
        OptionError
            If an option makes no sense, or images differ in shape.
        """
        from larun.model.cutouts import cutouts_of

        return cutouts_of(self, size, planes, extent, clip)

    @operation("residual", reach="global")
    def residual(self, psf: PSF | None = None) -> SkyImage:
        """The image without its stars, as they were measured with a PSF; the sky stays.

        Parameters
        ----------
        psf : PSF, optional
            By default that of the catalogue; needed after reading.

        Returns
        -------
        SkyImage
            Of the image's class, with its noise and flags. What is left of stars shows where the PSF is wrong.

        Raises
        ------
        CatalogError
            If there is no image, or no photometry with a PSF.
        """
        from larun.model.pointspread import photometry

        image = self._require_image()
        return image._replace(data=photometry.remains(self, image, psf or self.psf))

    @operation("morphology", version=3, reach="global")
    def morphology(self) -> Self:
        """Windowed centroids, and which sources are more extended than the stars of the image.

        Returns
        -------
        SourceCatalog
            With ``x_win``, ``y_win`` and their errors (SExtractor's XWIN_IMAGE, the window as wide as the source);
            ``size_excess``, how much more extended than a star a source is, in units of its error: stars scatter
            around 0 with 1, galaxies lie above 3; and ``star_p_value``, the chance that noise makes a star look as
            extended, uniform between 0 and 1 for stars. It is no probability of being a star: how common galaxies
            are is not known here. ``meta`` has the locus of stars: ``star_locus``, its own ``star_locus_scatter`` and
            the number ``star_locus_stars``.

        Raises
        ------
        CatalogError
            If the catalogue has no image: attach it first.

        Notes
        -----
        A neighbour within about 3 FWHM makes a star look extended, and so do trails. Saturated sources, and those
        with many unusable pixels, get NaN. Where fewer than five bright sources agree on what a star looks like, a
        warning is given and ``size_excess`` is NaN.
        """
        from larun.model.measure import classifying

        image = self._require_image()
        return self._replace(table=classifying.morphology(self._table, image))

    @operation("zero_point", reach="global", leave_out=("reference", "radius", "options"))
    def zero_point(
        self,
        reference: Any,
        *,
        band: str,
        color: str | None = None,
        radius: float | Quantity | None = None,
        magnitude: str = "mag_total",
        options: ZeroPointOptions | Mapping[str, Any] | None = None,
    ) -> ZeroPoint:
        """Magnitudes on a system, by stars of known magnitude.

        Parameters
        ----------
        reference : path, table or ReferenceCatalog
            Whatever :meth:`larun.ReferenceCatalog.open` takes; its stars are moved to the time of the exposure, and
            those near a source are kept in the record.
        band : str
            As the reference calls it.
        color : str, optional
            Two bands of the reference, ``"g-r"``: fit a colour term.
        radius : float or Quantity, optional
            Arcseconds within which a source is a star; by default from the scatter of the pairs themselves.
        magnitude : str
            What is calibrated; another column than ``mag_total`` is a magnitude of its own aperture.
        options : ZeroPointOptions or mapping, optional
            Which stars count; a polynomial over the frame; extinction.

        Returns
        -------
        ZeroPoint
            ``value``, ``error``, ``scatter``, ``color_term``, the table ``stars`` and the calibrated ``catalog``.

        Raises
        ------
        CatalogError
            If there are no magnitudes or sky coordinates, or too few stars are fit for it; it says why.
        OptionError
            If an option makes no sense, or the reference lacks a band.

        Notes
        -----
        The fit is that of :mod:`larun.algorithms.zeropoint`. The zero point is that of one count a second where the
        exposure time is known.
        """
        from larun.model.photometry import fitting

        wanted = fitting.wanted(band, color, magnitude, radius, options)
        found = fitting.matched(self, reference, wanted)
        recording().resolve(reference=found.known.to_record(), radius=found.found.radius, options=wanted.options)
        return fitting.fitted([found], wanted, [0])[0]

    def _require_image(self) -> SkyImage:
        if self.image is None:
            raise CatalogError(
                "the catalogue has no image (it was read or pickled): catalog.attach(frame) brings it back"
            )
        return self.image

    def curve_of_growth(
        self,
        radii: tuple[float, ...] = GROWTH_RADII,
        *,
        unit: str = "fwhm",
        sky: str = "annulus",
        annulus: tuple[float, float] | None = None,
    ) -> CurveOfGrowth:
        """The share of a star's light inside each radius: the median over bright, isolated, unflagged stars.

        Parameters
        ----------
        radii : sequence of float
            Radii; the largest counts as all the light.
        unit, sky, annulus
            As for :meth:`photometer`.

        Returns
        -------
        CurveOfGrowth
            ``radii`` in pixels, ``fraction``, its ``scatter`` from star to star, and the number of ``stars``.

        Raises
        ------
        CatalogError
            If the catalogue has no image, or fewer than three stars are fit for it.
        """
        from larun.model.measure import measuring

        options = measuring.ApertureOptions(radii=radii, unit=unit, sky=sky, annulus=annulus)
        return measuring.growth(self._table, self._require_image(), options)
