"""The base of everything with pixels: data, noise, flags, header, detector and provenance in one immutable value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun import flags as fl
from larun import units
from larun.algorithms import arithmetic
from larun.algorithms.resampled_noise import moved
from larun.detector import Detector, Section
from larun.errors import OptionError, UnitMismatch
from larun.flags import Flag
from larun.model import display, interop, registry, store
from larun.model.planes import Shared, alike, binned_wcs, freeze, is_wcs_card, mixed_noise, shifted_wcs, total_variance
from larun.model.raw.opening import RawPart
from larun.provenance import Provenance, operation, pixel_digest, recording

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData
    from astropy.wcs import WCS

    from larun.model.checks.verdict import Verdict
    from larun.model.recipe import Recipe

__all__ = ["Image", "piped"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _copied(header: Header | None) -> Any:
    from astropy.io import fits

    return fits.Header() if header is None else header


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Image:
    """Pixels with their noise, flags, header, detector and provenance: an immutable value.

    Make one with :meth:`from_arrays` or :meth:`read`. Every method returns a new object; arrays are read-only.

    Parameters
    ----------
    data : array (ny, nx), float32
        Pixel values in ``unit``.
    variance : array (ny, nx), float32, or None
        Independent noise variance; None before calibration.
    flags : array (ny, nx), uint32
        Pixel flags, see :mod:`larun.flags`.
    shared : tuple of Shared
        Noise that came with masters and is common to all images that used the same ones.
    noise_acf : array (2n+1, 2n+1), float32, or None
        Autocorrelation of the noise, 1 at the centre, the mean of the image; None means white.
    resampling : array (n,), float64, or None
        How pixels were made of those of other images, from which the correlation follows at any place: see
        :mod:`larun.algorithms.resampled_noise`.
    unit : str
        ``"adu"``, ``"electron"`` or any astropy unit.
    header, wcs_header : astropy.io.fits.Header
        The original header; the WCS cards that fit this array.
    detector : Detector
        Gain, read noise, levels and sections of the array as it is now.
    provenance : Provenance
        Where it came from.
    """

    #: Flags in bits 24-31 that belong to the instrument.
    instrument_flags: ClassVar[tuple[Flag, ...]] = ()

    data: NDArray[np.float32] = attrs.field(converter=freeze)
    variance: NDArray[np.float32] | None = attrs.field(default=None, converter=freeze)
    flags: NDArray[np.uint32] = attrs.field(converter=freeze)
    shared: tuple[Shared, ...] = ()
    noise_acf: NDArray[np.float32] | None = attrs.field(default=None, converter=freeze)
    _resampling: NDArray[np.float64] | None = attrs.field(default=None, converter=freeze)
    unit: str = units.ADU
    _header: Header = attrs.field(default=None, converter=_copied)
    _wcs_header: Header = attrs.field(default=None, converter=_copied)
    detector: Detector
    provenance: Provenance

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def __attrs_post_init__(self) -> None:
        shape = self.data.shape
        planes: dict[str, Any] = {"data": self.data, "variance": self.variance, "flags": self.flags}
        planes |= {f"shared[{index}]": item for index, item in enumerate(self.shared)}
        for name, plane in planes.items():
            if plane is None:
                continue
            kind = np.uint32 if name == "flags" else np.float32
            if len(plane.shape) != 2 or plane.shape != shape or plane.dtype != kind:
                raise OptionError(
                    f"{name} is {plane.dtype} {plane.shape}: must be {kind.__name__} of shape {shape}, as data"
                )

    # -- the door --------------------------------------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        data: ArrayLike,
        *,
        variance: ArrayLike | None = None,
        flags: ArrayLike | None = None,
        unit: Any = units.ADU,
        header: Header | Mapping[str, Any] | None = None,
        detector: Detector | None = None,
        **detector_values: Any,
    ) -> Self:
        """An image from arrays, without FITS; the arrays are copied.

        Parameters
        ----------
        data : array_like (ny, nx), or CCDData
            Any real dtype; integers are converted before any arithmetic. Values that are not finite become NO_DATA. A
            ``CCDData`` or ``NDData`` brings its uncertainty, mask, unit, header and WCS.
        variance : array_like (ny, nx), optional
            Noise variance in ``unit`` squared.
        flags : array_like (ny, nx), optional
            Pixel flags.
        unit : str or astropy unit
            Unit of the data.
        header : Header or mapping, optional
            Keywords to carry along; WCS cards among them are used.
        detector : Detector, optional
            Its description; default one amplifier over the whole array.
        **detector_values
            ``gain`` (electron/adu), ``read_noise`` (electron), ``saturation``, ``linear_limit`` (adu) for that default.

        Raises
        ------
        OptionError
            If shapes disagree, data are not a 2-D real array, or a value is unknown.

        Examples
        --------
        >>> import numpy as np, larun
        >>> frame = larun.Frame.from_arrays(np.full((4, 5), 1000, np.uint16), gain=1.5, read_noise=5)
        >>> (frame - 1010).data[0, 0]
        np.float32(-10.0)
        """
        return store.from_arrays(cls, data, variance, flags, unit, header, detector, detector_values)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        ext: int | str | tuple[str, int] | None = None,
        channel: str | None = None,
        verify: bool = True,
        **given: Any,
    ) -> Self:
        """Read a raw frame or a product of larun; the header (or the product's record) decides the class.

        Parameters
        ----------
        path : path
            A FITS file, also ``.fz`` or ``.gz``.
        ext : int, str or (str, int), optional
            Image of a raw file that holds several detectors: number, name, or name and version of the HDU.
        channel : str, optional
            Colour channel of a raw file from a Bayer sensor: ``"R"``, ``"G1"``, ``"G2"`` or ``"B"``.
        verify : bool
            Check a product's digests, or compute a raw file's pixel digest now rather than when it is first needed.
        **given
            What the header does not say or gets wrong, by quantity: ``gain=1.8``, ``read_noise=…``, ``exposure=60``,
            ``filter="V"``; or by keyword in capitals. Recorded in the provenance.

        Raises
        ------
        FileError
            If the file cannot be read, or holds another class than the one asked for.
        CorruptProduct
            If a product does not match its digests.
        """
        return store.read(cls, RawPart(path, ext, channel), verify=verify, given=given)

    def write(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        recipe: Recipe | None = None,
        verdicts: Sequence[Verdict] = (),
    ) -> Path:
        """Write a multi-extension FITS product; read it back with :meth:`read` for an identical object.

        A ``recipe`` is kept in the record, beside the provenance, as that by which the image was made; so are
        ``verdicts`` of a check, and those that are bad or doubtful stand in the first header, ``CHECK1`` and on.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set, or it is not a product of larun.
        """
        return store.write(self, path, overwrite=overwrite, recipe=recipe, verdicts=verdicts)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.data.shape[0], self.data.shape[1]

    @property
    def header(self) -> Header:
        """A copy of the header, with the WCS cards that fit this array."""
        made = self._header.copy()
        for keyword in [key for key in made if is_wcs_card(key)]:
            made.remove(keyword, ignore_missing=True)
        made.extend(self._wcs_header.copy().cards)
        return made

    @property
    def wcs(self) -> WCS | None:
        """The celestial WCS of this array; None when the header has none that works."""
        return store.wcs_of(self._wcs_header)

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """1 σ of every pixel: the root of the independent and the shared variance."""
        total = total_variance(self)
        return None if total is None else np.sqrt(total)

    @property
    def unusable(self) -> NDArray[np.bool_]:
        """Pixels whose value must not enter a measurement."""
        return np.asarray((self.flags & fl.UNUSABLE) != 0)

    @property
    def raw_detector(self) -> Detector:
        """The detector as it was in ADU, before calibration."""
        return self.detector.raw or self.detector

    def identical(self, other: object) -> bool:
        """Whether class, planes, header, WCS, unit, detector and provenance agree, bit for bit."""
        if not isinstance(other, Image) or registry.name_of(type(self)) != registry.name_of(type(other)):
            return False
        for field in attrs.fields(type(self)):
            if store.passing(field):
                continue
            one, two = getattr(self, field.name), getattr(other, field.name)
            if not alike(one, two):
                return False
        return True

    def __repr__(self) -> str:
        ny, nx = self.shape
        return f"<{type(self).__name__} {nx} × {ny} {self.unit or 'dimensionless'}>"

    _repr_html_ = display.image_html

    # -- the next object -------------------------------------------------------------------------------------------

    def _replace(self, **changes: Any) -> Self:
        """The one way to make the next object: same class, changed fields."""
        return attrs.evolve(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that unpickled and copied arrays are frozen again.
        fields = [field for field in attrs.fields(type(self)) if not store.passing(field)]
        state = {field.alias: store.plain_field(self, field.name) for field in fields}
        return functools.partial(type(self), **state), ()

    def pipe(self, function: Callable[Concatenate[Self, _P], _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """``function(self, …)`` as a recorded step of the user's own.

        An image or catalogue it returns carries the step: qualified name, digest of the source, and the arguments.

        Examples
        --------
        >>> import numpy as np, larun
        >>> def double(frame, factor):
        ...     return frame * factor
        >>> frame = larun.Frame.from_arrays(np.ones((2, 2)))
        >>> frame.pipe(double, 2.0).data[0, 0]
        np.float32(2.0)
        """
        return piped(self, function, args, kwargs)  # type: ignore[no-any-return]

    @operation("with_planes", leave_out=("data", "variance", "flags"))
    def with_planes(
        self, *, data: ArrayLike | None = None, variance: ArrayLike | None = None, flags: ArrayLike | None = None
    ) -> Self:
        """The same image with other pixels, for steps of one's own; what is not given stays.

        The record keeps the digests of the new planes. Inside a function called by :meth:`pipe` it also knows where
        they come from.

        Parameters
        ----------
        data, variance, flags : array_like (ny, nx), optional
            New planes; copied.

        Raises
        ------
        OptionError
            If a shape differs.

        Examples
        --------
        >>> import numpy as np, larun
        >>> frame = larun.Frame.from_arrays(np.ones((2, 3)))
        >>> frame.with_planes(data=frame.data * 2).data.max()
        np.float32(2.0)
        """
        given = {"data": (data, np.float32), "variance": (variance, np.float32), "flags": (flags, np.uint32)}
        planes = {name: np.array(value, kind) for name, (value, kind) in given.items() if value is not None}
        recording().resolve(**{name: pixel_digest(plane) for name, plane in planes.items()})
        return self._replace(**planes)

    @operation("crop")
    def crop(self, x: tuple[int, int], y: tuple[int, int]) -> Self:
        """The window of columns ``x[0] … x[1] − 1`` and rows ``y[0] … y[1] − 1`` (0-based).

        Raises
        ------
        OptionError
            If the window is empty or leaves the image.
        """
        window = Section(int(y[0]), int(y[1]), int(x[0]), int(x[1]))
        if not window.within(self.shape):
            raise OptionError(
                f"crop x={tuple(x)}, y={tuple(y)}: must lie within 0 … {self.shape[1]}, 0 … {self.shape[0]}"
            )
        cut = window.slices
        return self._replace(
            data=self.data[cut].copy(),
            variance=None if self.variance is None else self.variance[cut].copy(),
            flags=self.flags[cut].copy(),
            shared=tuple(Shared(item.master, item.variance[cut].copy()) for item in self.shared),
            resampling=None if self._resampling is None else moved(self._resampling, window.x0, window.y0),
            header=store.without_sections(self._header),
            wcs_header=shifted_wcs(self._wcs_header, window.x0, window.y0),
            detector=self.detector.cropped(window),
            **store.cropped_planes(self, cut),
        )

    @operation("bin")
    def bin(self, factor: int) -> Self:
        """Sums over blocks of ``factor`` × ``factor`` pixels, with the noise they really have.

        Rows and columns at the top and right that do not fill a block are left out. A block with a pixel that has no
        data has none. Overscan must be gone.

        Raises
        ------
        OptionError
            If the factor does not fit, or overscan is still there.
        """
        if not 1 <= factor <= min(self.shape):
            raise OptionError(f"bin factor {factor}: must be 1 … {min(self.shape)}")
        if self.detector.needs_trim:
            raise OptionError("bin would mix overscan with data: calibrate (or crop to the data section) first")
        acf, noise_factor = arithmetic.bin_acf(self.noise_acf, factor)
        made = arithmetic.bin_planes(self._planes(), factor, noise_factor)
        return self._replace(
            **_fields(made),
            noise_acf=acf,
            resampling=None,
            header=store.without_sections(self._header),
            wcs_header=binned_wcs(self._wcs_header, factor),
            detector=self.detector.binned(factor),
            **store.binned_planes(self, factor),
        )

    # -- arithmetic ------------------------------------------------------------------------------------------------

    @interop.adopting
    @operation("add", symmetric=True)
    def __add__(self, other: Image | float) -> Self:
        """Sum; independent variances add, the noise of a shared master is counted once."""
        made = arithmetic.linear(self._planes(), self._operand(other, same=True), 1.0)
        return self._replace(**_fields(made), **self._correlated(other))

    @interop.adopting
    @operation("subtract_plain")
    def __sub__(self, other: Image | float) -> Self:
        """Plain difference; the noise of a shared master cancels as far as it is common."""
        made = arithmetic.linear(self._planes(), self._operand(other, same=True), -1.0)
        return self._replace(**_fields(made), **self._correlated(other))

    @interop.adopting
    @operation("multiply", symmetric=True)
    def __mul__(self, other: Image | float) -> Self:
        """Product with a number or an image."""
        unit = _product_unit(self.unit, other, "*")
        made = arithmetic.product(self._planes(), self._operand(other))
        return self._replace(**_fields(made), **self._correlated(other, product=True), unit=unit)

    @interop.adopting
    @operation("divide")
    def __truediv__(self, other: Image | float) -> Self:
        """Quotient by a number or an image; where the divisor is zero the result is NO_DATA."""
        unit = _product_unit(self.unit, other, "/")
        made = arithmetic.quotient(self._planes(), self._operand(other))
        return self._replace(**_fields(made), **self._correlated(other, product=True), unit=unit)

    __radd__ = __add__
    __rmul__ = __mul__
    #: ``array * image`` is left to the image, which refuses it, instead of giving an array of images.
    __array_ufunc__ = None

    def __neg__(self) -> Self:
        return self * -1.0

    def __rsub__(self, other: float) -> Self:
        return (self * -1.0) + other

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The data, for numpy functions that know no masks or noise."""
        return np.array(self.data, dtype=dtype, copy=copy)

    def _planes(self) -> arithmetic.Planes:
        return arithmetic.Planes(self.data, self.variance, self.flags, {s.master: s.variance for s in self.shared})

    def _operand(self, other: Any, *, same: bool = False) -> arithmetic.Planes:
        if isinstance(other, Image):
            if other.shape != self.shape:
                raise OptionError(f"images of shape {self.shape} and {other.shape} do not combine")
            if same and other.unit != self.unit:
                raise UnitMismatch(f"{self.unit or 'dimensionless'} and {other.unit or 'dimensionless'} do not add")
            return other._planes()
        if isinstance(other, np.ndarray) and other.ndim:
            raise OptionError("a plain array knows no noise: make it an image with larun.Image.from_arrays(array, …)")
        if getattr(other, "unit", None) is not None and units.canonical(other.unit) != (self.unit if same else ""):
            what = f"{self.unit} can be added or subtracted" if same else "plain numbers can multiply or divide"
            raise UnitMismatch(f"{other}: only {what}")
        number = units.plain(other, self.unit if same else "", "operand")
        zeros = np.broadcast_to(np.uint32(0), self.shape)
        constant = np.broadcast_to(np.float32(number), self.shape)
        return arithmetic.Planes(constant, np.zeros_like(self.data), zeros, {})

    def _correlated(self, other: Image | float, *, product: bool = False) -> dict[str, Any]:
        """How the noise of a result is correlated; in products and quotients relative noise takes the weight."""
        return mixed_noise(self, other, relative=product) if isinstance(other, Image) else {}

    # -- neighbours ------------------------------------------------------------------------------------------------

    def to_ccddata(self) -> CCDData:
        """An :class:`astropy.nddata.CCDData`: standard deviation, boolean mask, header and WCS.

        Unusable pixels are masked, and the flags go along; the shared noise is folded into the uncertainty.
        """
        return interop.to_ccddata(self)

    @classmethod
    def from_ccddata(cls, ccd: CCDData, **detector_values: Any) -> Self:
        """An image from :class:`astropy.nddata.CCDData` (or NDData); masked pixels become BAD.

        :meth:`from_arrays` takes them too, and arithmetic with an image does; ``detector_values`` are as there.

        Raises
        ------
        OptionError
            If the data are not 2-D, have no unit, or an uncertainty that makes no variance.
        """
        return interop.from_ccddata(cls, ccd, detector_values)


@operation("pipe", reach="global")
def piped(self: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a user's function as one recorded step of ``self``, an image or a catalogue."""
    return function(self, *args, **kwargs)


registry.register(Image)


def _fields(planes: arithmetic.Planes) -> dict[str, Any]:
    shared = tuple(Shared(master, plane) for master, plane in sorted(planes.shared.items()))
    return {"data": planes.data, "variance": planes.variance, "flags": planes.flags, "shared": shared}


def _product_unit(unit: str, other: Image | float, sign: str) -> str:
    if not isinstance(other, Image) or not other.unit:
        return unit
    if sign == "/" and unit == other.unit:
        return units.NONE
    return units.canonical(f"({unit or '1'}) {sign} ({other.unit})")
