"""``LightCurve``: the light of stars through a series of frames, calibrated by others, with what decided it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, FileError, OptionError
from larun.model.catalog import SourceCatalog
from larun.model.curves.calibrating import Moments, calibrate, light_curve_table
from larun.model.curves.coordinates import coordinates_of
from larun.model.curves.epochs import Epoch, epochs_of, listed_frames, reference_of
from larun.model.curves.extinction import colours_of
from larun.model.curves.measuring import Stars, candidates, check_inside, lay, snapped, trusted
from larun.model.curves.options import METHODS, LightCurveOptions
from larun.model.curves.profiles import Work, asked
from larun.model.measure.positions import positions_of
from larun.model.tabular import Tabular
from larun.provenance import Parent, Provenance, operation, recording

if TYPE_CHECKING:
    from astropy.table import QTable
    from numpy.typing import ArrayLike

    from larun.algorithms.scene import SceneFit, SceneOptions
    from larun.model.curves.transit import TransitFit, TransitOptions
    from larun.model.cutouts import Cutouts
    from larun.model.difference import DifferenceImage
    from larun.model.differencecurve import DifferenceCurve
    from larun.model.psf import PSF
    from larun.model.sky import SkyImage
    from larun.model.tracklets import Tracklets

__all__ = ["LightCurve", "read_tabular"]


def _recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``extract`` as they are kept: PSFs that are handed over are inputs."""
    method, options = arguments["method"], arguments["options"]
    if isinstance(method, str) and method not in METHODS:
        raise OptionError(f"method={method!r}: must be one of {', '.join(METHODS)}, or PSFs")
    if method != "aperture" and options.radius is not None:
        raise OptionError(f"radius={options.radius}: belongs to apertures; method='psf' has none")
    return arguments | {"method": method if isinstance(method, str) else "psf"}


def _reasons(lost: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in lost.items()]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LightCurve(Tabular):
    """The light of one or more targets, and of the stars they are compared with, in every frame of a series.

    ``table`` has a row for each star in each frame, the targets first; :meth:`curve` gives one star. Make one with
    :meth:`extract`.
    """

    @classmethod
    @operation(
        "light_curve",
        version=3,
        reach="global",
        leave_out=("frames", "positions", "reference", "comparison", "coordinates"),
        resolve=_recorded,
    )
    def extract(
        cls,
        frames: Iterable[SkyImage | str | Path],
        positions: Any,
        *,
        reference: SkyImage | str | Path | None = None,
        method: str | PSF | Sequence[PSF] = "aperture",
        comparison: Any = None,
        coordinates: Any = None,
        options: LightCurveOptions = LightCurveOptions(),
    ) -> Self:
        """Measure targets in every frame and calibrate them by other stars.

        Frames are measured as they are, never resampled; places are carried to each by its stars. Cosmic rays are
        flagged and never replaced.

        Parameters
        ----------
        frames : iterable of SkyImage or path
            Calibrated exposures of one field in one filter, in any order. Files are read one at a time.
        positions : array, table, SkyCoord, …
            Of the targets, in any form that :meth:`larun.SkyImage.photometer` takes: pixels of the reference, or
            places on the sky where it has a WCS. With a column ``colour``, or as an (n, 3) array, and ``comparison``
            too, extinction by colour is taken out (:mod:`larun.algorithms.colourterm`).
        reference : SkyImage or path, optional
            Whose pixels are meant; by default the first frame in time.
        method : {"aperture", "psf"}, PSF or sequence of PSF
            In apertures; or by the point-spread function that each frame gives, of its own or handed over (one for all
            frames, or one for each in their order), neighbours fitted with the stars.
        comparison : positions, optional
            Comparison stars; by default bright, lone stars that are on nine of ten frames, weighed by their scatter.
            A target is never among them.
        coordinates : SkyCoord or (ra, dec), optional
            Of the targets, ICRS degrees: for times at the barycentre. By default what ``positions`` or the reference's
            WCS say, else where the telescope pointed; without any, times stay JD in UTC, and ``meta["time"]`` says so.
        options : LightCurveOptions
            Aperture, recentring, field, scintillation.

        Returns
        -------
        LightCurve
            A frame that does not show the field, or gives no PSF, is left out with a warning, and the record says why.

        Raises
        ------
        NotAligned
            If no frame fits the reference.
        CatalogError
            If there are too few comparison stars, the reference gives no PSF, or sky coordinates come without a WCS.
        OptionError
            If there are no frames, one is raw or has no time, they are of several filters, or an option makes no sense.

        Notes
        -----
        The zero point of a frame is that of all comparison stars (:mod:`larun.algorithms.ensemble`), a level or a
        plane, whichever leaves them less scatter. A comparison star is calibrated by the others. Errors are those of
        pixels, sky, zero point and scintillation; red noise is told beside them, as ``beta``
        (:func:`larun.algorithms.rednoise.time_averaging`), and enters the errors of a fit.
        """
        listed = listed_frames(frames)
        psfs = asked(method, len(listed))
        epochs = epochs_of(listed)
        base = reference_of(epochs, reference)
        image = base.image()
        given = _placed(image, positions)
        places = coordinates_of(coordinates, positions, image, (given[0], given[1]))
        chosen = None if comparison is None else _placed(image, comparison)
        recording().resolve(
            positions=np.column_stack(given),
            comparison=None if chosen is None else np.column_stack(chosen),
            coordinates=None if places is None else [list(place) for place in places],
            reference=base.provenance.id,
        )
        laid, lost = lay(epochs, base, options.transform)
        work = Work.by_apertures(laid, image) if method == "aperture" else Work.by_psf(laid, base, psfs, options)
        stars = _stars((given, chosen), (base, work.sources), work.laid, options)
        series = work.measured(stars, options)
        moments = Moments.of(series.epochs, places, stars.targets)
        made = calibrate(series, stars, moments, options)
        for epoch, _ in work.laid:
            recording().parents.append(Parent("frame", epoch.provenance))
        if all(epoch is not base for epoch, _ in work.laid):
            recording().parents.append(Parent("reference", base.provenance))
        recording().parents.extend(Parent("psf", one.provenance) for one in work.used(psfs))
        recording().fit(frames=series.told, rejected=_reasons(lost | work.lost))
        table = light_curve_table(series, stars, moments, made, options, image.unit)
        return cls(table=table, provenance=base.provenance)  # the operation puts its own in its place

    @staticmethod
    def from_differences(
        differences: Iterable[DifferenceImage | str | Path], positions: Any, **how: Any
    ) -> DifferenceCurve:
        """How much more light places give than in a reference, through a series of differences with it.

        Parameters
        ----------
        differences, positions, **how
            As for :meth:`larun.DifferenceCurve.extract`.
        """
        from larun.model.differencecurve import DifferenceCurve

        return DifferenceCurve.extract(differences, positions, **how)

    # -- what is in it ---------------------------------------------------------------------------------------------

    @property
    def targets(self) -> int:
        """How many targets there are."""
        return int(self._table.meta["targets"])

    @property
    def stars(self) -> QTable:
        """All stars, one a row: place in the reference, magnitude, scatter, what noise predicts, whether they count."""
        from astropy.table import QTable

        rows = self._table.meta["stars"]
        return QTable({name: _column([row[name] for row in rows]) for name in rows[0]})

    def curve(self, star: int = 1) -> QTable:
        """The rows of one star, in order of time.

        Parameters
        ----------
        star : int
            Its number, from 1; the targets come first.

        Raises
        ------
        CatalogError
            If there is no such star.
        """
        chosen = np.asarray(self._table["star"]) == star
        if not chosen.any():
            raise CatalogError(f"star={star}: must be 1 … {int(np.max(np.asarray(self._table['star'])))}")
        made = self._table[chosen]
        made.meta = {"about": self.meta["stars"][star - 1], "time": self.meta["time"]}
        return made

    def time(self, star: int = 1) -> NDArray[np.float64]:
        """Times of one star in days: BJD_TDB, or JD in UTC where no coordinates are known."""
        own = self.curve(star)
        return np.asarray(own["bjd_tdb" if self.barycentric else "jd_utc"].value)

    @property
    def barycentric(self) -> bool:
        """Whether times are BJD_TDB."""
        return bool(np.isfinite(self._table["bjd_tdb"].value).all())

    def good(self, star: int = 1) -> NDArray[np.bool_]:
        """Which points of one star can be trusted: nothing in the aperture is flagged or cut.

        Where pixels that are bad in all frames hide up to a twentieth of the light, it is put back by the shape of a
        star, and the error grows: such points are flagged INTERPOLATED and count.
        """
        own = self.curve(star)
        flux, error = np.asarray(own["flux"]), np.asarray(own["flux_error"])
        return np.asarray(np.isfinite(flux) & np.isfinite(error) & trusted(np.asarray(own["flags"], np.uint32)))

    def fit_transit(self, options: TransitOptions, *, star: int = 1) -> TransitFit:
        """A planet in front of a star: mid-time, depth and their errors. Needs the extra ``transit`` (batman).

        Parameters
        ----------
        options : TransitOptions
            Orbit, limb darkening, what is free, and the trend that multiplies the transit.
        star : int
            Number of the star.

        Returns
        -------
        TransitFit
            Errors are those of the least-squares fit, times the root of the reduced chi-squared where that is above 1,
            times ``beta`` for red noise in what is left. Points with a flagged pixel do not count.

        Raises
        ------
        MissingExtra
            If batman is not installed.
        CatalogError
            If there are too few points, or they do not tell what is free.
        OptionError
            If a variable of the trend is not known.
        """
        from larun.model.curves.transit import fit_transit

        return fit_transit(self, options, star)

    def scene(
        self,
        frames: Iterable[SkyImage | str | Path],
        *,
        star: int = 1,
        absent: ArrayLike | None = None,
        options: SceneOptions | None = None,
    ) -> SceneFit:
        """The light of a star together with the static light around and behind it, on stamps of the frames as they are.

        Each frame has its own point-spread function, place and zero point; nothing is resampled or subtracted.

        Parameters
        ----------
        frames : iterable of SkyImage or path
            All frames of this light curve, in any order.
        star : int
            Number of the star.
        absent : array_like of bool, optional
            In order of time: frames in which it is known to give no light, so that fluxes are absolute; by default they
            are differences from their mean.
        options : SceneOptions, optional
            How far the static light reaches, and how fine it is.

        Returns
        -------
        SceneFit
            ``flux`` in order of time on the scale of the mean zero point, its ``covariance``, the static ``scene``.

        Raises
        ------
        OptionError
            If frames are missing or others are given, or the problem is too large.
        """
        from larun.algorithms.scene import SceneOptions
        from larun.model.curves.scenes import scene

        return scene(self, frames, star, absent, options or SceneOptions())

    def __repr__(self) -> str:
        count, stars = len(self._table), len(self._table.meta["stars"])
        used = sum(item["used"] for item in self._table.meta["stars"])
        return f"<{type(self).__name__} {count // stars} frames, {self.targets} target(s), {used} comparison stars>"

    # -- disk ------------------------------------------------------------------------------------------------------

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a file that :meth:`read` turns back into an identical light curve; the suffix chooses the format.

        Suffixes are those of :meth:`larun.SourceCatalog.write`: ``.ecsv``, ``.fits``, ``.parquet``, ``.vot``.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set.
        OptionError
            If the suffix is unknown.
        """
        from larun.io.tables import write_table

        write_table(Path(path), self._table, self._record(), overwrite=overwrite)
        return Path(path)

    def write_aavso(
        self,
        path: str | Path,
        *,
        name: str,
        observer: str,
        band: str,
        star: int = 1,
        magnitude: float | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the points that can be trusted in the AAVSO's extended format, differential to the ensemble.

        Parameters
        ----------
        path : path
        name, observer, band : str
            Of the star, as the AAVSO calls it; your code; and its code of the filter (``V``, ``CV``).
        star : int
            Number of the star.
        magnitude : float, optional
            Standard magnitude at relative flux 1; by default magnitudes are differential about 0.
        overwrite : bool
            Replace a file of larun; any other file is never replaced.

        Raises
        ------
        FileError
            If the path may not be written.
        OptionError
            If a name has no printable text.

        Notes
        -----
        Times are JD in UTC, as the AAVSO wants them.
        """
        from larun.model.curves.formats import write_aavso

        about: dict[str, Any] = {"name": name, "observer": observer, "band": band, "star": star}
        return write_aavso(self, path, **about, magnitude=magnitude, overwrite=overwrite)

    def write_exoclock(self, path: str | Path, *, star: int = 1, overwrite: bool = False) -> Path:
        """Write time, relative flux and error of the points that can be trusted, as ExoClock takes them.

        The first lines say what the times are, and how long exposures were.
        """
        from larun.model.curves.formats import write_exoclock

        return write_exoclock(self, path, star=star, overwrite=overwrite)

    def write_measurements(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a measurement table that AstroImageJ opens: targets ``T1`` and so on, comparison stars ``C2``.

        ``rel_flux`` is that of this light curve, over its median.
        """
        from larun.model.curves.formats import write_measurement_table

        return write_measurement_table(self, path, overwrite=overwrite)

    @classmethod
    def read(cls, path: str | Path, *, verify: bool = True) -> Self:
        """Read a light curve written by :meth:`write`.

        Raises
        ------
        FileError
            If the file cannot be read, or holds something else.
        CorruptProduct
            If it does not match its digests.
        """
        from larun.io.tables import read_table

        table, record = read_table(Path(path), verify=verify)
        if "targets" not in table.meta or "role" not in table.colnames:
            raise FileError(f"{path}: holds a {record.get('class', 'table')}, no light curve")
        return cls(table=table, provenance=Provenance.from_dict(record["provenance"], str(path)))


def read_tabular(path: str | Path) -> SourceCatalog | LightCurve | DifferenceCurve | Tracklets | PSF | Cutouts:
    """The catalogue, light curve, tracklets, point-spread function or stamps in a file, whichever it holds.

    Raises
    ------
    FileError
        If the file cannot be read.
    CorruptProduct
        If it does not match its digests.
    """
    from larun.io.tables import read_table
    from larun.model.cutouts import Cutouts
    from larun.model.differencecurve import DifferenceCurve
    from larun.model.psf import PSF
    from larun.model.tracklets import Tracklets

    table, record = read_table(Path(path))
    if "psf" in record:
        return PSF.read(path, verify=False)  # it was verified just now
    if "stamps" in record and Path(path).suffix.lower() == ".fits":
        return Cutouts.read(path, verify=False)
    name = str(record.get("class", "")).rpartition(":")[2]
    known: dict[str, type[SourceCatalog | LightCurve | DifferenceCurve | Tracklets]] = {
        one.__name__: one for one in (LightCurve, DifferenceCurve, Tracklets)
    }
    cls = known.get(name, SourceCatalog)
    return cls(table=table, provenance=Provenance.from_dict(record["provenance"], str(path)))


def _column(values: list[Any]) -> NDArray[Any]:
    if any(value is None for value in values):
        return np.array([np.nan if value is None else float(value) for value in values])
    return np.array(values)


def _placed(image: SkyImage, positions: Any) -> tuple[NDArray[np.float64], ...]:
    """Columns of given positions: x, y, and the colour where it is known."""
    places, colours = colours_of(positions)
    x, y = positions_of(image, places)
    return (x, y) if colours is None else (x, y, colours)


def _stars(given: tuple[Any, Any], seen: tuple[Epoch, QTable], laid: Any, options: LightCurveOptions) -> Stars:
    """Targets and comparison stars, in pixels of the reference."""
    (x, y, *own), chosen = given
    base, table = seen
    if not len(x):
        raise OptionError("positions: there is no target")
    theirs = [] if chosen is None else list(chosen[2:])
    if len(own) != len(theirs):
        raise OptionError(
            "colours must be known of the targets and of the comparison stars: give positions= and comparison= with a "
            "column colour each, or neither"
        )
    if options.recentre != "none":
        x, y = snapped(x, y, table, base.fwhm)
    cx, cy = candidates(table, (x, y), laid, base.fwhm, options.most) if chosen is None else chosen[:2]
    if options.recentre != "none" and chosen is not None:
        cx, cy = snapped(cx, cy, table, base.fwhm)
    near = np.min(np.hypot(cx[:, None] - x[None, :], cy[:, None] - y[None, :]), axis=1, initial=np.inf)
    others = near > base.fwhm  # no target is compared with itself
    colour = np.concatenate([own[0], theirs[0][others]]) if own else None
    made = Stars(np.concatenate([x, cx[others]]), np.concatenate([y, cy[others]]), len(x), colour)
    check_inside(made, base)
    return made
