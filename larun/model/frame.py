"""``Frame``: one exposure of the sky (or of a lamp, or of nothing), from raw to clean; cameras subclass it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun import units
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import AlreadyApplied, OptionError, UnitMismatch
from larun.io.headers import get_number, get_numbers, get_text
from larun.model import calibration, cleaning, headers, store
from larun.model.building import BuildOptions, mask_from
from larun.model.masters import Master, Masters, Selection, kinds
from larun.model.planes import shifted_wcs
from larun.model.raw.companions import Companions
from larun.model.raw.opening import parts_of
from larun.model.sky import SkyImage
from larun.model.subtracting.step import subtract
from larun.model.time import timing
from larun.model.time.site import Site
from larun.model.time.timing import ExposureTime
from larun.provenance import operation, recording

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.io.mosaic import Readout
    from larun.model.checks.verdict import Report
    from larun.model.recipe import Recipe

__all__ = ["Frame"]

_KELVIN = 273.15
_NUMBERS = ("temperature", "binning_x", "binning_y", "airmass")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Frame(SkyImage):
    """One exposure. A camera is a subclass that declares constants and hooks, never fields.

    Examples
    --------
    >>> import numpy as np, larun
    >>> raw = larun.Frame.from_arrays(np.full((32, 32), 1200, np.uint16), gain=2.0, read_noise=6.0, saturation=60000)
    >>> frame = raw.calibrate(without=("bias", "dark", "flat"))
    >>> frame.unit, float(frame.data[0, 0]), float(frame.variance[0, 0])
    ('electron', 2400.0, 2436.0)
    """

    #: Hook: keywords for each quantity; a camera lists only the rows it changes.
    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = headers.KEYWORDS
    #: Hook: kinds of masters that must be there unless the caller says ``without=``.
    required: ClassVar[frozenset[str]] = frozenset({"bias", "dark", "flat"})
    #: Hook: where the telescope stands: degrees east, degrees north, metres. It wins over the cards of the header.
    site: ClassVar[Site | tuple[float, float, float] | None] = None
    #: Hook: the planes of errors and flags that come with the image, where the observatory has calibrated it.
    companions: ClassVar[Companions | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        unknown = set(cls.required) - set(Selection._fields)
        if unknown:
            raise OptionError(f"{cls.__name__}.required names {sorted(unknown)}: use {', '.join(Selection._fields)}")
        if cls.site is not None:
            Site.of(cls.site)
        for quantity, names in vars(cls).get("keywords", {}).items():
            if isinstance(names, str):
                raise OptionError(f"{cls.__name__}.keywords[{quantity!r}] = {names!r}: give a tuple, ({names!r},)")

    # -- hooks -----------------------------------------------------------------------------------------------------

    @classmethod
    def matches(cls, header: Header) -> bool:
        """Hook: whether a raw header comes from this camera. A class whose own body defines it is a camera."""
        return False

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """Hook: the detector of a raw frame; by default one amplifier as the header states it."""
        return headers.detector_from_header(header, shape, cls.all_keywords())

    @classmethod
    def amplifier_readouts(cls, headers: Sequence[Header], shape: tuple[int, int]) -> Sequence[Readout] | None:
        """Hook: where the images (or planes) of a file lie that are the amplifiers of one detector.

        By default None: every image is a detector of its own. ``headers`` are those of the images, in order; ``shape``
        is that of the first.
        """
        return None

    @classmethod
    def channels(cls, header: Header, shape: tuple[int, int]) -> Mapping[str, tuple[int, int]]:
        """Hook: row and column of the first pixel of each colour channel; empty for sensors without a Bayer filter."""
        return headers.channels_from_header(header, shape, cls.all_keywords())

    @classmethod
    def flag_raw(cls, data: NDArray[np.float32], header: Header, first_row: int) -> NDArray[np.uint32] | None:
        """Hook: flags for some rows of a raw frame, beginning at ``first_row``; None for none.

        Of a Bayer sensor that is read by colours these are rows of one channel; ``header["CHANNEL"]`` names it.
        """
        return None

    @classmethod
    def classify(cls, header: Header) -> headers.Classified:
        """Hook: the kind of exposure and the evidence for it."""
        return headers.classify(header, cls.all_keywords())

    @classmethod
    def time_for(cls, header: Header) -> ExposureTime:
        """Hook: when and where an exposure was taken, by the rows of ``keywords`` and the ``site``."""
        return timing.from_header(header, cls.all_keywords(), cls.site)

    # -- what the header says --------------------------------------------------------------------------------------

    @classmethod
    def all_keywords(cls) -> dict[str, tuple[str, ...]]:
        """The table of keywords with the rows this camera and its bases change."""
        merged: dict[str, tuple[str, ...]] = {}
        for base in reversed(cls.__mro__):
            merged |= vars(base).get("keywords", {})
        return merged

    @classmethod
    def raw_unit(cls, header: Header) -> str:
        """Unit of raw pixels, from BUNIT where it is one that is known."""
        amount, _, per = str(header.get("BUNIT", "")).strip().lower().partition("/")
        unit = units.ELECTRON if amount.strip() in ("electron", "electrons", "e-") else units.ADU
        return units.canonical(f"{unit} / s") if per.strip() in ("s", "sec", "second") else unit

    @classmethod
    def quantity_of(cls, header: Header, name: str) -> Any:
        """A quantity of a header by this camera's keywords: a number or text; None when it is missing."""
        keywords = cls.all_keywords()[name]
        if name == "exposure":
            return headers.exposure_seconds(header, keywords).value
        if name not in _NUMBERS:
            return get_text(header, keywords)[0]
        value = get_number(header, keywords)[0]
        # No detector works at 100 degrees Celsius: such a number is in kelvin.
        return value - _KELVIN if name == "temperature" and value is not None and value > 100 else value

    @classmethod
    def criteria_from(cls, header: Header, detector: Detector) -> dict[str, Any]:
        """What masters are matched on, for a raw header and its detector."""
        both = get_numbers(header, ("CCDSUM",)).value or (1, 1)  # one card for both axes
        binning = [
            abs(int(cls.quantity_of(header, f"binning_{axis}") or n)) for axis, n in zip("xy", both, strict=False)
        ]
        ny, nx = detector.trimmed_shape
        return {
            "instrument": cls.quantity_of(header, "instrument"),
            "chip": header.get("CHANNEL") or cls.quantity_of(header, "chip"),
            "mode": cls.quantity_of(header, "mode"),
            "size": [nx, ny],
            "binning": binning,
            "gain": [a.gain for a in (detector.raw or detector).amplifiers],
            "temperature": cls.quantity_of(header, "temperature"),
            "exposure": cls.quantity_of(header, "exposure"),
            "filter": cls.quantity_of(header, "filter"),
        }

    @property
    def criteria(self) -> dict[str, Any]:
        """What masters are matched on: instrument, chip, mode, size, binning, gain, temperature, exposure, filter."""
        return self.criteria_from(self._header, self.detector)

    @property
    def exposure(self) -> float | None:
        """Exposure time in seconds; None when the header does not say."""
        value = self.quantity_of(self._header, "exposure")
        return None if value is None else float(value)

    @property
    def filter(self) -> str | None:
        """Name of the filter; None when the header does not say."""
        value = self.quantity_of(self._header, "filter")
        return None if value is None else str(value)

    @property
    def time(self) -> ExposureTime:
        """When and where it was exposed: middle in UTC and BJD, air mass, pointing."""
        return timing.of_frame(self)

    @property
    def kind(self) -> str:
        """``"bias"``, ``"dark"``, ``"flat"`` or ``"science"``, by the evidence of the header."""
        return self.classify(self._header).kind

    def __repr__(self) -> str:
        ny, nx = self.shape
        name = self.provenance.name
        about = ", ".join(str(part) for part in (name, self.filter, self.exposure and f"{self.exposure:g} s") if part)
        return f"<{type(self).__name__} {nx} × {ny} {self.unit}{', ' + about if about else ''}>"

    def _refuse_mosaic(self) -> None:
        channels = self.channels(self._header, self.shape)
        if channels:
            raise OptionError(
                f"{self!r} is a mosaic of colours: read one of them, Frame.read(path, channel='G1'), or all, "
                f"Frame.read_all(path) (it has {', '.join(channels)})"
            )

    @property
    def calibrated(self) -> bool:
        """Whether pixels are electrons with a variance: made so by :meth:`calibrate`, or by the observatory."""
        return self.detector.raw is not None or (self.unit == units.ELECTRON and self.variance is not None)

    @classmethod
    def read_all(cls, path: str | Path, *, verify: bool = True, **given: Any) -> tuple[Self, ...]:
        """Every exposure in a raw file: one for each detector of a mosaic camera, or each colour of a Bayer sensor.

        Parameters
        ----------
        path : path
            A raw FITS file.
        verify, **given
            As for :meth:`read`.

        Raises
        ------
        FileError
            If the file cannot be read.
        """
        parts = parts_of(path, cls, given)
        return tuple(cls.read(part.path, ext=part.ext, channel=part.channel, verify=verify, **given) for part in parts)

    # -- verbs -----------------------------------------------------------------------------------------------------

    @operation("calibrate", version=3, reach="global", once=True, leave_out=("masters", "bad_pixels"))
    def calibrate(
        self,
        masters: Masters | Master | Iterable[Master] | str | Path = (),
        *,
        without: Iterable[str] = (),
        overscan: OverscanOptions = OverscanOptions(),
        bad_pixels: Any = None,
    ) -> Self:
        """Undo what the camera did: overscan, trim, bias, linearity, gain, dark, flat; make flags and variance.

        Parameters
        ----------
        masters : Masters, one or more masters, or a folder of them
            Candidates; those that fit are selected by their criteria and become parents of the result.
        without : iterable of {"bias", "dark", "flat"}
            Kinds to do without although the camera requires them; recorded.
        overscan : OverscanOptions
            How the overscan level is found, where the detector has one.
        bad_pixels : Image, path, array (ny, nx) or CCDData, optional
            Known bad pixels of the trimmed image (not zero is bad), besides those the masters know.

        Returns
        -------
        Frame
            Same class; unit electron; variance is ``max(signal, 0) + read_noise²`` of the signal before dark
            subtraction, over flat² (Howell 2006, Handbook of CCD Astronomy, sect. 4.4); what each master's noise
            adds is in ``shared``.

        Raises
        ------
        NoMatchingMaster
            If a required kind has no match.
        HeaderError
            If gain, read noise or a needed exposure time is missing.
        AlreadyApplied
            If the frame is calibrated already.
        """
        left_out = kinds(without)
        known = BuildOptions(overscan=overscan, bad_pixels=bad_pixels)
        recording().resolve(without=left_out)  # equal work has an equal id, however it was asked for
        if self.calibrated:
            by = "" if self.detector.raw is not None else " by its observatory: go on with clean() or detect()"
            raise AlreadyApplied(f"{self!r} is calibrated already{by}")
        if self.unit != units.ADU:
            raise UnitMismatch(f"{self!r} is in {self.unit}: only raw frames in adu can be calibrated")
        mask = mask_from(known, self.detector.trimmed_shape)
        selection = _as_masters(masters).select(self, without=left_out)
        for role, master in zip(selection._fields, selection, strict=True):
            if master is not None:
                recording().parent(role, master.provenance)
        made = calibration.calibrate(self, selection, known.overscan)
        corner = calibration.corner(self.detector)
        return self._replace(
            data=made.data,
            variance=made.variance,
            flags=made.flags if bad_pixels is None else fl.resolve_bad(np.where(mask, made.flags | fl.BAD, made.flags)),
            shared=made.shared,
            unit=units.ELECTRON,
            header=store.without_sections(self._header),
            wcs_header=shifted_wcs(self._wcs_header, corner[1], corner[0]),
            detector=self.detector.trimmed().in_electrons(),
        )

    def check(self, recipe: Recipe | None = None) -> Report:
        """Test this calibrated frame against its own noise model: pixels, empty apertures, stars, sky.

        Parameters
        ----------
        recipe : Recipe, optional
            How its sources are found and measured.

        Returns
        -------
        Report
            What one frame alone can tell; :meth:`larun.Night.check` tells more.

        Raises
        ------
        OptionError
            If the frame is raw.
        """
        from larun.model.checks.driver import check_frame

        return check_frame(self, recipe)

    @operation("clean", version=4, reach="global", once=True)
    def clean(
        self,
        *,
        engine: str | Callable[..., Any] = "larun",
        sigma: float = 4.5,
        contrast: float | None = None,
        fwhm: float | None = None,
        iterations: int = 4,
        replace: bool = True,
    ) -> Self:
        """Find cosmic rays and replace them by their neighbours.

        Parameters
        ----------
        engine : {"larun", "astroscrappy", "median"} or callable
            L.A.Cosmic on the variance plane, safe for stars (van Dokkum 2001, PASP 113, 1420); the same by
            astroscrappy; a plain clip against the local median; or a function of your own with the signature of
            :func:`larun.algorithms.cosmic.lacosmic`, which returns a boolean mask of the rays (the pixels are then
            replaced as larun does) or a ``CosmicRays``. Its qualified name and the digest of its source are recorded.
        sigma : float
            Detection limit in units of the noise.
        contrast : float, optional
            Limit of the Laplacian against the fine structure, besides the bound that the star size sets; by default 2
            (5 for astroscrappy, which has no such bound). Higher spares more stars and misses more rays.
        fwhm : float, optional
            Of the stars along their narrow axis, in pixels; measured when not given. astroscrappy knows no star size.
        iterations : int
            Most passes.
        replace : bool
            False only flags (COSMIC) and leaves values alone, as time series want it.

        Raises
        ------
        OptionError
            If the frame has no variance yet, or an option makes no sense.
        AlreadyApplied
            If the frame was cleaned before.
        """
        options = cleaning.options(engine, sigma=sigma, contrast=contrast, fwhm=fwhm, iterations=iterations)
        if self.variance is None:
            raise OptionError(f"{self!r} has no variance plane: calibrate it first")
        self._refuse_mosaic()
        made = cleaning.clean(self, engine, options)
        recording().fit(fwhm=made.fwhm, cosmic_pixels=made.pixels, sky=made.sky)
        flags = self.flags.copy()
        flags[made.mask] |= fl.COSMIC | fl.INTERPOLATED if replace else fl.COSMIC
        if not replace:
            return self._replace(flags=flags)
        return self._replace(data=made.data, variance=made.variance, flags=flags)

    subtract = subtract  # it stands beside what it calls: this class declares enough


def _as_masters(masters: Any) -> Masters:
    if isinstance(masters, Masters):
        return masters
    if isinstance(masters, str | Path):
        return Masters.read(masters)
    return Masters((masters,) if isinstance(masters, Master) else tuple(masters))
