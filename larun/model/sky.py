"""``SkyImage``: an image with stars on it, which can be searched and measured."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np

from larun.algorithms.background import Background, BackgroundOptions
from larun.algorithms.detect import DetectOptions
from larun.algorithms.fwhm import FwhmEstimate, estimate_fwhm
from larun.algorithms.resample import ResampleOptions
from larun.errors import LarunWarning
from larun.model.aligning.regridding import regridded
from larun.model.aligning.transforms import align_by
from larun.model.catalog import SourceCatalog
from larun.model.image import Image
from larun.model.measure import detecting, measuring, schema
from larun.model.measure.positions import positions_of
from larun.model.measure.skies import background_of
from larun.provenance import operation, recording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from astropy.table import QTable
    from numpy.typing import ArrayLike

    from larun.model.astrometry.options import SolveOptions
    from larun.model.astrometry.solution import Solution
    from larun.model.cutouts import Cutouts
    from larun.model.pointspread.options import CompletenessOptions, PsfFitOptions, PsfOptions
    from larun.model.psf import PSF
    from larun.model.quality.measured import Quality

__all__ = ["SkyImage"]


def _psf_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    from larun.model.pointspread.options import checked_model, psf_options

    checked_model(arguments["model"], arguments["order"])
    return arguments | {"options": psf_options(arguments["options"])}


#: Stands in for a size that is not measured yet, when options are checked.
_ANY_FWHM = 3.0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SkyImage(Image):
    """An image of the sky. Fields are those of :class:`larun.model.image.Image`."""

    def background(self, *, mesh: int = 64, filter_size: int = 3, sigma: float = 3.0) -> Background:
        """The smooth sky and its noise, from clipped cells of a mesh.

        Parameters
        ----------
        mesh : int
            Size of a cell in pixels.
        filter_size : int
            Cells of the median filter over the mesh.
        sigma : float
            Clipping limit within a cell.

        Returns
        -------
        Background
            ``level`` and ``rms`` (ny, nx) in the unit of the image, and ``variance``: the smooth noise variance, what
            the masters add included.
        """
        options = BackgroundOptions(mesh=mesh, filter_size=filter_size, sigma=sigma)
        return background_of(self, options)

    def star_size(self, sky: Background | None = None) -> FwhmEstimate:
        """The median size of the stars, measured without any prior (Gaussian-weighted moments).

        Parameters
        ----------
        sky : Background, optional
            What :meth:`background` found; measured when not given.

        Returns
        -------
        FwhmEstimate
            ``fwhm`` and ``minor`` (along the narrow axis) in pixels, and the number of ``stars``; a warning, and an
            assumed size, where there are too few.
        """
        sky = sky or self.background()
        found = estimate_fwhm(self.data, sky.level, sky.variance, self.flags)
        if found.stars == 0:
            warnings.warn(
                f"{self!r}: too few stars to measure their size; {found.fwhm:g} pixels are assumed: give fwhm=…",
                LarunWarning,
                stacklevel=4,
            )
        return found

    def quality(self) -> Quality:
        """How sharp, round and deep the image is: profiles fitted to its stars, their change over the field, its noise.

        Returns
        -------
        Quality
            Every number named for what it is; with fewer than 5 stars that agree in size, only sky and noise.

        Raises
        ------
        OptionError
            If neighbouring pixels see different colours.

        Examples
        --------
        >>> import larun
        >>> print(larun.Frame.read("out/frames/m13.fits").quality())  # doctest: +SKIP
        """
        from larun.model.quality.measured import quality_of

        self._refuse_mosaic()
        return quality_of(self)

    def _refuse_mosaic(self) -> None:
        """Raise where neighbouring pixels see different colours: no star has a shape there."""

    @operation("detect", version=5, reach="global", resolve=detecting.recorded)
    def detect(
        self,
        threshold: float = 5.0,
        *,
        method: str | Callable[..., Any] = "matched",
        fwhm: float | None = None,
        mesh: int = 64,
        options: Mapping[str, Any] | Any = None,
    ) -> SourceCatalog:
        """Find sources and measure positions, fluxes and shapes.

        Parameters
        ----------
        threshold : float
            Least signal to noise of a detection.
        method : {"matched", "peaks", "dao", "sep", "segmentation"} or callable
            Maxima of the matched filter in true S/N; plain local maxima of the image; photutils' DAOFIND; sep
            (SExtractor); photutils' segmentation with deblending; or a function of your own.
        fwhm : float, optional
            Of the stars, in pixels: the filter's shape. Measured when not given; recorded.
        mesh : int
            Size in pixels of the cells of the background mesh.
        options : DaoOptions, SepOptions, SegmentationOptions or mapping, optional
            Options of the engine, or keywords of the function; recorded with all their defaults.

        Returns
        -------
        SourceCatalog
            By falling S/N, with the columns of :mod:`larun.model.measure.schema`.

        Raises
        ------
        OptionError
            If an option makes no sense, or the engine has no such option.

        Notes
        -----
        The noise is the smooth noise of the sky (the median of the total variance in every cell), so 5 σ means 5 σ;
        where the image has no variance plane, the clipped scatter of the cell takes its place.

        Positions and ``flux`` are the engine's; what it does not measure is measured as for ``"matched"``. A function
        is called as ``method(search, **options)`` with a :class:`larun.algorithms.engines.Search` and returns positions
        (n, 2), or a mapping or table (:func:`larun.algorithms.engines.found_by`). The record keeps its qualified name
        and the digest of its source.
        """
        self._refuse_mosaic()
        wanted = DetectOptions(threshold=threshold, fwhm=_ANY_FWHM if fwhm is None else fwhm)
        sky = self.background(mesh=mesh)
        if fwhm is None:
            measured = self.star_size(sky)
            fwhm = float(measured.fwhm)
            recording().fit(fwhm=fwhm, fwhm_stars=int(measured.stars))
        wanted = attrs.evolve(wanted, fwhm=fwhm, gain=self._photon_gain())
        found = detecting.detect(self, sky, method, options, wanted, mesh)
        table = measuring.detected(self, found, fwhm, sky)
        if isinstance(method, str):
            table["flux"].info.description = detecting.FLUX[method]
        return SourceCatalog(table=table, image=self, provenance=self.provenance)

    def _photon_gain(self) -> float:
        """Electrons per unit of the data, for the photon noise of sources."""
        return float(self.detector.amplifiers[0].gain or 1.0)

    @operation(
        "forced_photometry",
        version=7,
        reach="global",
        leave_out=("positions",),
        resolve=measuring.recorded_forced,
    )
    def photometer(
        self,
        positions: ArrayLike | Any,
        radii: tuple[float, ...] = measuring.RADII,
        *,
        unit: str = "fwhm",
        sky: str | None = None,
        annulus: tuple[float, float] | None = None,
        method: str | PSF = "aperture",
        options: PsfFitOptions | Mapping[str, Any] | None = None,
    ) -> SourceCatalog:
        """Forced photometry: measure given positions, whether or not anything is seen there.

        Parameters
        ----------
        positions : array, table, SourceCatalog, SkyCoord, path or regions
            Where to measure; kept in the record. An (n, 2) array of x and y; a table or catalogue with x and y, or
            else with ra and dec (ICRS, with their unit); sky coordinates; a DS9 region file (``"stars.reg"``); or
            regions of the ``regions`` package.
        radii, unit, sky, annulus
            As for :meth:`larun.model.catalog.SourceCatalog.photometer`. Stars that would spoil the sky annulus are
            found by :meth:`detect` first.
        method, options
            As there, but positions are fixed unless ``options`` say ``positions="free"``. With a PSF, the other stars
            that :meth:`detect` finds are fitted too, so that none spoils the flux at a position.

        Returns
        -------
        SourceCatalog
            One row per position, in the order given.

        Raises
        ------
        CatalogError
            If sky coordinates are given and the image has no WCS.
        """
        given = {"radii": radii, "unit": unit, "sky": sky, "annulus": annulus, "method": method, "options": options}
        wanted = measuring.recorded_forced(given)
        circles = None if "method" in wanted else measuring.ApertureOptions(**wanted)
        x, y = positions_of(self, positions)
        recording().resolve(positions=np.column_stack([x, y]))
        if hasattr(positions, "provenance"):
            recording().parent("positions", positions.provenance)
        found = self.detect()._table
        table = measuring.placed(self, x, y, found)
        if circles is not None:
            made = measuring.photometered(table, self, circles, neighbours=found)
            return SourceCatalog(table=made, image=self, provenance=self.provenance)
        from larun.model.pointspread import photometry

        by_psf = photometry.of_positions(self, table, found, **wanted)
        recording().fit(**by_psf.facts)
        return SourceCatalog(table=by_psf.table, image=self, psf=by_psf.psf, provenance=self.provenance)

    def cutouts(self, positions: ArrayLike | Any, size: int = 31, **options: Any) -> Cutouts:
        """Stamps of 8-bit numbers around given positions.

        Parameters
        ----------
        positions : array, table, SourceCatalog, SkyCoord, path or regions
            As for :meth:`photometer`.
        size, **options
            As for :meth:`larun.SourceCatalog.cutouts`.

        Returns
        -------
        Cutouts
            One stamp per position, in the order given.

        Raises
        ------
        CatalogError, OptionError
            As there.
        """
        table = schema.table(schema.PLACES[:2], dict(zip("xy", positions_of(self, positions), strict=True)), self.unit)
        return SourceCatalog.from_table(table, image=self).cutouts(size, **options)

    @operation("psf", version=6, reach="global", resolve=_psf_arguments)
    def psf(
        self,
        sources: SourceCatalog | None = None,
        *,
        model: str = "empirical",
        order: int | None = None,
        aperture: float | None = None,
        options: PsfOptions | Mapping[str, Any] | None = None,
    ) -> PSF:
        """The point-spread function, from the stars of the image.

        Parameters
        ----------
        sources : SourceCatalog, optional
            All sources, faint ones too: from them stars are chosen that are bright, whole and alone. By default what
            :meth:`detect` finds. In a crowd less is asked, and neighbours are subtracted.
        model : {"empirical", "moffat", "gaussian"}
            What the stars show, on an oversampled grid; or an elliptical profile, integrated over pixels, for few
            stars or undersampled images.
        order : int, optional
            Of the polynomials over the image, 0 to 2; by default what the shapes of the stars ask for, and their
            number bears.
        aperture : float, optional
            Radius in pixels of the circle that holds a light of 1, so that fluxes are those of such an aperture; by
            default :attr:`PSF.radius`, 4 FWHM: that to which magnitudes of apertures are corrected.
        options : PsfOptions or mapping, optional
            Which stars, and on which grid.

        Returns
        -------
        PSF
            With the stars, used or not and why, what is left of them, and where it is bad.

        Raises
        ------
        CatalogError
            If the stars cannot give it: too few, too faint, or not where they would be needed.
        OptionError
            If an option makes no sense, or the image is undersampled for an empirical function.

        Notes
        -----
        See :mod:`larun.algorithms.psf_build` (after Anderson & King 2000, PASP 112, 1360).
        """
        from larun.model.pointspread import making
        from larun.model.pointspread import options as known
        from larun.model.psf import PSF

        self._refuse_mosaic()
        known.checked_model(model, order)
        wanted = known.psf_options(options)
        found = (self.detect() if sources is None else sources)._table
        made = making.make(self, found, model, order, aperture, wanted)
        recording().fit(**{name: made.facts[name] for name in ("converged", "iterations", "chi2")})
        table = schema.table(schema.PSF_STARS, made.columns, self.unit)
        table.meta = {"model": model, **made.facts}
        return PSF(
            table=table,
            provenance=self.provenance,
            function=made.function,
            residual=made.remains.mean,
            residual_error=made.remains.error,
            chi2_map=made.remains.chi2,
        )

    def completeness(
        self,
        catalog: SourceCatalog,
        *,
        centre: tuple[float, float] | None = None,
        rings: Sequence[float] | None = None,
        magnitudes: Sequence[float] | None = None,
        options: CompletenessOptions | Mapping[str, Any] | None = None,
    ) -> QTable:
        """The share of stars that are found as ``catalog`` was: by PSF photometry of this image, stars put into it.

        By distance from ``centre`` in ``rings`` (edges, pixels; by default all one), and by bins of ``magnitudes``
        (edges, instrumental as ``mag_psf``; by default S/N 3 to 200). ``injected`` and ``found`` for each, their
        ``share`` with 68 % limits, and the bias and scatter of the magnitudes of those found. Columns and what counts
        as found: :mod:`larun.algorithms.psf_inject`. Raises CatalogError and OptionError.
        """
        from larun.algorithms.engines import options_of
        from larun.model.pointspread import completeness as injected
        from larun.model.pointspread.options import CompletenessOptions

        how = options_of(CompletenessOptions, "completeness", options)
        return injected.completeness(self, catalog, centre, rings, magnitudes, how)

    @operation("align", version=3, reach="global", leave_out=("reference",))
    def align_to(
        self,
        reference: SkyImage | str | Path,
        *,
        method: str = "stars",
        transform: str = "affine",
        kernel: str = "auto",
        conserve: str = "flux",
    ) -> Self:
        """This image on the pixels of another image of the same field.

        Cosmic rays must be flagged before (:meth:`clean`): what is flagged rings into nothing. Neighbouring pixels are
        correlated afterwards, which errors of apertures take into account; a light curve is better measured on the
        frame as it is.

        Parameters
        ----------
        reference : SkyImage or path
            Gives the pixels, their number, and the WCS.
        method : {"stars", "phase", "wcs"}
            Stars of both matched, whatever the turn, scale and mirror; structure matched by a shift alone, for fields
            without stars; or the WCS of both, as they are.
        transform : {"affine", "similarity", "quadratic", "cubic"}
            What is fitted to the stars; simpler where they are too few.
        kernel : {"auto", "lanczos3", "bilinear", "nearest", "area"}
            ``"auto"`` is Lanczos-3 where the scale stays within 2 %, else exact areas.
        conserve : {"flux", "brightness"}
            What stays where the scale changes: the sum over a star, or the value of the sky.

        Returns
        -------
        SkyImage
            Same class. The record has the transform, the rms of its stars in pixels and their number; EDGE where
            neighbours are missing, NO_DATA outside.

        Raises
        ------
        NotAligned
            If both do not show the same field; the message says what was tried.
        OptionError
            If an option makes no sense, or the image has its overscan still.
        AlreadyApplied
            If the image was resampled before.

        Examples
        --------
        >>> import numpy as np, larun
        >>> field = np.random.default_rng(1).normal(0, 1, (96, 96)).cumsum(0).cumsum(1)
        >>> one, two = (larun.Frame.from_arrays(field[k : k + 80, 6:86]) for k in (0, 3))
        >>> aligned = two.align_to(one, method="phase")
        >>> bool(np.allclose(aligned.data[10:], one.data[10:], atol=1))
        True
        """
        options = ResampleOptions(kernel=kernel, conserve=conserve)
        target = reference if isinstance(reference, SkyImage) else SkyImage.read(reference)
        recording().parent("reference", target.provenance)
        found = align_by(method, self, target, transform)
        recording().fit(**found.fitted)
        return self._replace(**regridded(self, target, found, options))

    @operation("solve", reach="global", leave_out=("reference", "pointing", "radius", "scale", "options"))
    def solve(
        self,
        reference: Any,
        *,
        pointing: Any = None,
        radius: Any = None,
        scale: Any = None,
        order: int | None = None,
        engine: str = "larun",
        options: SolveOptions | Mapping[str, Any] | None = None,
    ) -> Self:
        """Find where on the sky the image is, by its stars, and give it the WCS.

        Turn and parity are free. What the header says of pointing and scale is tried first and never trusted.

        Parameters
        ----------
        reference : whatever :meth:`larun.ReferenceCatalog.open` takes
            Stars of known position; they are moved to the middle of the exposure. Those around the image are kept in
            the record. None with ``engine="astrometry.net"``: stars are then those of its index files.
        pointing : (ra, dec), "RA,DEC" or SkyCoord, optional
            Roughly the middle of the image, degrees or with units; by default the header's, else all of a reference
            that is no larger than 60 degrees is searched.
        radius : float or Quantity, optional
            Degrees around the pointing in which the image lies as a whole; by default half a degree and half the image.
        scale : float or (float, float), optional
            Arcseconds a pixel (within a tenth), or the least and the largest; by default the header's, and then a
            factor of 6 around it, else all that the reference can tell.
        order : int, optional
            1 for a projection without distortion (TAN), more for the order of its polynomial (TAN-SIP). By default as
            cross-validation has it, and the number of stars bears.
        engine : {"larun", "astrometry.net"}
            What searches. The second runs the program ``solve-field``, which must be installed with its index files;
            the fit is larun's.
        options : SolveOptions or mapping, optional
            How sources are found, and how sure it must be.

        Returns
        -------
        SkyImage
            Same class, with the WCS; :attr:`solution` has residuals, odds and stars.

        Raises
        ------
        NotSolved
            If nothing agrees, saying what was tried.
        OptionError
            If an option makes no sense, or nobody knows where to look.

        Notes
        -----
        Triangles of bright stars are guesses; a guess is accepted by the odds of the stars that it predicts (after Lang
        et al. 2010, AJ 139, 1782), see :mod:`larun.algorithms.odds`.
        """
        from larun.model.astrometry import solving

        wanted = solving.options_from(options)
        made = solving.solve(self, reference, (pointing, radius, scale), order, engine, wanted)
        recording().resolve(**made.parameters)
        recording().fit(**made.fitted)
        return self._replace(wcs_header=made.cards)

    @property
    def solution(self) -> Solution | None:
        """What :meth:`solve` found; None where the image was not solved."""
        from larun.model.astrometry.solution import solution_of

        return solution_of(self.provenance)
