"""To and from astropy's own data classes, ``CCDData`` and ``NDData``, wherever a user would hand them over.

They are told by what they offer, so that ``astropy.nddata`` is loaded only by those who use it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun import units
from larun.errors import LarunWarning, OptionError
from larun.model import registry
from larun.model.planes import is_wcs_card

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData

    from larun.model.image import Image

__all__ = ["Parts", "adopting", "from_ccddata", "is_nddata", "mask_of", "merged", "parts_of", "raw_frame", "to_ccddata"]

_I = TypeVar("_I", bound="Image")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Parts(NamedTuple):
    """What a ``CCDData`` says, as :meth:`larun.model.image.Image.from_arrays` takes it."""

    data: Any
    variance: Any
    flags: Any
    unit: str | None
    header: Any


def is_nddata(value: Any) -> bool:
    """Whether a value is a ``CCDData``, an ``NDData`` or one of their kin."""
    return not hasattr(value, "provenance") and all(hasattr(value, name) for name in ("data", "mask", "uncertainty"))


def to_ccddata(image: Image) -> CCDData:
    """See :meth:`larun.model.image.Image.to_ccddata`."""
    from astropy.nddata import CCDData, StdDevUncertainty

    noise = image.uncertainty
    return CCDData(
        image.data.copy(),
        unit=image.unit or "",
        uncertainty=None if noise is None else StdDevUncertainty(noise),
        mask=image.unusable,
        flags=image.flags.copy(),
        meta=image.header,
        wcs=image.wcs,
    )


def from_ccddata(cls: type[_I], ccd: Any, detector_values: Mapping[str, Any]) -> _I:
    """See :meth:`larun.model.image.Image.from_ccddata`."""
    if not is_nddata(ccd) or getattr(ccd, "unit", None) is None:
        raise OptionError(
            f"a {type(ccd).__name__} is not a CCDData or an NDData with a unit: give it one, as CCDData(…, unit='adu')"
        )
    return cls.from_arrays(ccd, **detector_values)


def merged(ccd: Any, given: Parts) -> Parts:
    """What a ``CCDData`` says together with what the caller says; nothing may be said twice.

    Raises
    ------
    OptionError
        If variance, flags or unit are given although the ``CCDData`` has its own.
    """
    own = parts_of(ccd)
    for name in ("variance", "flags"):
        if getattr(given, name) is not None and getattr(own, name) is not None:
            raise OptionError(f"{name}=…: the {type(ccd).__name__} has its own; give one of them")
    unit = units.canonical(given.unit)
    if own.unit is not None and unit not in (own.unit, units.ADU):
        raise OptionError(f"unit={given.unit!r}: the {type(ccd).__name__} is in {own.unit}; convert it before")
    header = own.header
    header.update(given.header or {})
    return Parts(
        data=own.data,
        variance=own.variance if given.variance is None else given.variance,
        flags=own.flags if given.flags is None else given.flags,
        unit=unit if own.unit is None else own.unit,
        header=header,
    )


def parts_of(ccd: Any) -> Parts:
    """Data, variance, flags, unit and header (with the WCS) of a ``CCDData`` or ``NDData``.

    Raises
    ------
    OptionError
        If the uncertainty is of a kind or unit that makes no variance, or a shape differs.

    Warns
    -----
    LarunWarning
        If metadata cannot be header cards, or the WCS is not one of FITS: they are left behind.
    """
    data = ccd.data
    shape = np.shape(data)
    unit = None if getattr(ccd, "unit", None) is None else units.canonical(ccd.unit)
    variance = _variance(ccd, shape)
    return Parts(data, variance, _flags(ccd, shape, variance), unit, _header(ccd))


def _fitting(values: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    try:
        return np.broadcast_to(values, shape)
    except ValueError as error:
        raise OptionError(f"the {name} has shape {np.shape(values)}, the data {shape}: they must agree") from error


# What turns each kind of uncertainty into a variance, and the power of the data's unit that it has.
_VARIANCE: Mapping[str, tuple[Callable[[Any], Any], int]] = {
    "std": (np.square, 1),
    "var": (lambda values: values, 2),
    "ivar": (np.reciprocal, -2),
}


def _variance(ccd: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    noise = ccd.uncertainty
    if noise is None or getattr(noise, "array", None) is None:
        return None
    kind = str(getattr(noise, "uncertainty_type", "unknown"))
    if kind not in _VARIANCE:
        raise OptionError(
            f"an uncertainty of type {kind!r} makes no variance: use StdDevUncertainty, VarianceUncertainty or "
            "InverseVariance"
        )
    to_variance, power = _VARIANCE[kind]
    values = np.array(_fitting(noise.array, shape, "uncertainty"), dtype=np.float64)
    if (values < 0).any():
        raise OptionError(f"the uncertainty ({kind}) is negative in {int((values < 0).sum())} pixels")
    own, wanted = getattr(noise, "unit", None), getattr(ccd, "unit", None)
    if own is not None and wanted is not None:
        from astropy.units import UnitConversionError

        try:
            values *= own.to(wanted**power)
        except UnitConversionError as error:
            raise OptionError(f"an uncertainty ({kind}) in {own} does not fit data in {wanted}") from error
    with np.errstate(divide="ignore"):  # no weight is no knowledge: an infinite variance
        return np.asarray(to_variance(values))


def _flags(ccd: Any, shape: tuple[int, ...], variance: NDArray[np.float64] | None) -> NDArray[np.uint32] | None:
    """Masked pixels and those without known noise are BAD; flags of larun's own where they agree with the mask."""
    mask = np.zeros(shape, bool) if ccd.mask is None else np.array(_fitting(ccd.mask, shape, "mask"), dtype=bool)
    flags: Any = getattr(ccd, "flags", None)
    ours = isinstance(flags, np.ndarray) and flags.dtype == np.uint32 and flags.shape == shape
    if ours and np.array_equal((flags & fl.UNUSABLE) != 0, mask):
        return np.asarray(flags)
    if variance is not None:
        mask |= ~np.isfinite(variance)
    if ccd.mask is None and not mask.any():
        return None
    return np.where(mask, fl.BAD, np.uint32(0))


def mask_of(ccd: Any) -> NDArray[np.bool_]:
    """The bad pixels that a ``CCDData`` marks: its mask; and if its data are no fluxes, where they are not zero.

    Raises
    ------
    OptionError
        If it holds an image and no mask.
    """
    unit = "" if getattr(ccd, "unit", None) is None else units.canonical(ccd.unit)
    data = np.asarray(ccd.data)
    if unit and ccd.mask is None:
        raise OptionError(f"bad_pixels: a {type(ccd).__name__} in {unit} without mask is an image: give its bad pixels")
    mask = np.zeros(data.shape, bool) if ccd.mask is None else _fitting(ccd.mask, data.shape, "mask").astype(bool)
    return mask if unit else mask | (data != 0)


# -- header ------------------------------------------------------------------------------------------------------------


def _header(ccd: Any) -> Header:
    from astropy.io import fits

    from larun.io.cards import quiet

    meta = ccd.meta if getattr(ccd, "meta", None) else {}
    if isinstance(meta, fits.Header):
        return _with_wcs(meta.copy(), ccd)
    header, lost = fits.Header(), []
    with quiet():
        for key, value in meta.items():
            plain = _plain(value)
            try:
                if plain is None and value is not None:
                    raise ValueError(key)  # noqa: TRY301 - told with the others
                header[str(key) if len(str(key)) <= 8 else f"HIERARCH {key}"] = plain
                str(header)
            except (ValueError, TypeError):
                header.remove(str(key), ignore_missing=True)
                lost.append(str(key))
    if lost:
        _tell(f"metadata that cannot be a FITS card are left behind: {', '.join(lost[:10])}")
    return _with_wcs(header, ccd)


def _plain(value: Any) -> Any:
    """A value as a card holds it; None where none can."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else None
    return value if isinstance(value, bool | int) else None


def _with_wcs(header: Header, ccd: Any) -> Header:
    """The header with the cards of the WCS; those it has already stay when they say the same."""
    wcs = getattr(ccd, "wcs", None)
    wcs = getattr(wcs, "low_level_wcs", wcs)
    if wcs is None:
        return header
    from larun.io.headers import wcs_from_header, wcs_to_header

    if not hasattr(wcs, "wcs") or not hasattr(wcs, "sip"):
        _tell(f"a WCS of type {type(wcs).__name__} is left behind: only those of FITS are carried")
        return header
    if any(getattr(wcs, name, None) is not None for name in ("cpdis1", "cpdis2", "det2im1", "det2im2")):
        _tell("distortions in look-up tables of the WCS are left behind: only SIP and TPV are carried")
    if wcs.naxis != 2:
        wcs = wcs.celestial
    if not _same_wcs(wcs_from_header(header), wcs):
        for keyword in {key for key in header if is_wcs_card(key)}:
            header.remove(keyword, ignore_missing=True, remove_all=True)
        header.update(wcs_to_header(wcs))
    return header


def _same_wcs(one: Any, two: Any) -> bool:
    from astropy.wcs import WCSCOMPARE_ANCILLARY  # dates and the like do not count

    if one is None or not one.wcs.compare(two.wcs, WCSCOMPARE_ANCILLARY) or one.wcs.radesys != two.wcs.radesys:
        return False
    if (one.sip is None) != (two.sip is None):
        return False
    return one.sip is None or all(
        np.array_equal(getattr(one.sip, name), getattr(two.sip, name)) for name in ("a", "b", "ap", "bp", "crpix")
    )


def _tell(message: str) -> None:
    warnings.warn(message, LarunWarning, stacklevel=7)


# -- doors of other modules --------------------------------------------------------------------------------------------


def adopting(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """An operator of images that also takes a ``CCDData``: it becomes an image, with a root of its own, first."""

    @functools.wraps(method)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        taken: Iterable[Any] = (_image(value) if is_nddata(value) else value for value in args)
        return method(*taken, **kwargs)

    return wrapper


def _image(ccd: Any) -> Any:
    image = registry.by_name("larun.model.image:Image")
    assert image is not None
    return from_ccddata(image, ccd, {})


def raw_frame(base: type[Any], ccd: Any, given: Mapping[str, Any]) -> Any:
    """A raw frame from a ``CCDData``: its header chooses the camera and describes the detector, as a file's would."""
    from larun.model.raw import opening

    parts = parts_of(ccd)
    where = f"{type(ccd).__name__} {parts.header.get('FILENAME', parts.header.get('OBJECT', ''))}".strip()
    shape = np.shape(parts.data)
    if len(shape) != 2:
        raise OptionError(f"{where}: has shape {shape}: must be 2-D")
    found = opening.interpret(base, parts.header, (shape[0], shape[1]), given, where)
    frame = found.camera.from_arrays(
        parts.data, flags=parts.flags, unit=parts.unit or units.ADU, header=found.header, detector=found.detector
    )
    more = registry.ask(found.camera, "flag_raw", where, frame.data, found.header, 0)
    return frame if more is None else frame._replace(flags=fl.resolve_bad(frame.flags | more))
