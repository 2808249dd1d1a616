"""Between the model and the disk: which class a file becomes, and what an object writes."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun import flags as fl
from larun import units
from larun.detector import Detector
from larun.errors import CorruptProduct, FileError, LarunWarning, OptionError
from larun.model import interop, registry
from larun.model.headers import split_given
from larun.model.planes import Shared, wcs_cards
from larun.model.raw import companions
from larun.model.raw.opening import RawPart, open_part
from larun.provenance import Provenance, Root, environment, pixel_digest

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from larun.model.checks.verdict import Verdict
    from larun.model.image import Image
    from larun.model.recipe import Recipe

__all__ = [
    "from_arrays",
    "plain_field",
    "read",
    "record_fields",
    "wcs_of",
    "without_sections",
    "write",
]

_I = TypeVar("_I", bound="Image")

# Parts of the array as it was read out, of one or several amplifiers, and where it lies in physical coordinates.
_SECTIONS = re.compile(r"(BIAS|TRIM|DATA|CCD|DET|AMP|PRE|POST|ROI)SEC[A-Z0-9]?|TRIM|OVERSCAN|[LAD]TM\d(_\d)?|[LAD]TV\d")


def without_sections(header: Header) -> Header:
    """The header without section keywords, which no longer fit a trimmed, cropped or binned array."""
    stale = {keyword for keyword in header if _SECTIONS.fullmatch(keyword)}
    if not stale:
        return header
    made = header.copy()
    for keyword in stale:
        made.remove(keyword, remove_all=True)
    return made


def wcs_of(cards: Header) -> WCS | None:
    """The WCS of a set of cards; None when they make none that works."""
    from larun.io.headers import wcs_from_header

    return wcs_from_header(cards) if "CTYPE1" in cards else None


def from_arrays(
    cls: type[_I],
    data: ArrayLike,
    variance: ArrayLike | None,
    flags: ArrayLike | None,
    unit: Any,
    header: Header | Mapping[str, Any] | None,
    detector: Detector | None,
    detector_values: Mapping[str, Any],
) -> _I:
    """See :meth:`larun.model.image.Image.from_arrays`."""
    from astropy.io import fits

    if interop.is_nddata(data):
        data, variance, flags, unit, header = interop.merged(data, interop.Parts(data, variance, flags, unit, header))
    if hasattr(data, "unit") and hasattr(data, "value"):
        unit, data = data.unit, data.value
    plane = _plane(data, "data")
    shape = plane.shape
    bits = np.zeros(shape, np.uint32) if flags is None else np.array(flags, dtype=np.uint32)
    if bits.shape != shape:
        raise OptionError(f"flags have shape {bits.shape}, data {shape}: they must agree")
    bits[~np.isfinite(plane)] |= fl.NO_DATA
    noise = None if variance is None else _plane(variance, "variance")
    if noise is not None and (noise.shape != shape or (noise < 0).any()):
        raise OptionError(f"variance must be of shape {shape} and nowhere negative; it has shape {noise.shape}")
    values, cards = split_given(detector_values, getattr(cls, "all_keywords", dict)() or _DETECTOR_ONLY)
    cards_header = header.copy() if isinstance(header, fits.Header) else fits.Header(list((header or {}).items()))
    cards_header.update(cards)
    device = detector or Detector.single((shape[0], shape[1]))
    if values:
        device = device.with_values(**values)
    return cls(
        data=plane,
        variance=noise,
        flags=bits,
        unit=units.canonical(unit),
        header=cards_header,
        wcs_header=wcs_cards(cards_header),
        detector=device,
        provenance=Provenance(
            root=Root(
                kind="memory",
                pixels=lambda: pixel_digest(plane, noise, bits),
                given={**detector_values, "detector": device.to_dict(), "unit": units.canonical(unit)},
                header=cards_header.tostring(sep="\n"),
                instrument=registry.identity_of(cls),
            )
        ),
    )


_DETECTOR_ONLY = dict.fromkeys(("gain", "read_noise", "saturation", "linear_limit"), ())


def _plane(values: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(values)
    if np.ma.isMaskedArray(values):
        array = np.ma.filled(np.ma.asarray(values).astype(np.float32), np.nan)
    if array.dtype.kind not in "biuf" or array.ndim != 2 or 0 in array.shape:
        raise OptionError(f"{name} is {array.dtype} of shape {array.shape}: must be a 2-D array of real numbers")
    return np.array(array, dtype=np.float32, order="C")


def read(cls: type[_I], part: RawPart, *, verify: bool, given: Mapping[str, Any]) -> _I:
    """See :meth:`larun.model.image.Image.read`."""
    from larun.io.product import is_product

    path = part.path
    if path.is_file() and is_product(path):
        wrong = [*given, *(["channel"] if part.channel else [])]
        if wrong:
            raise OptionError(f"{path}: is a product of larun; {', '.join(wrong)} can only be given for raw files")
        return _read_product(cls, path, verify)
    return _read_raw(cls, part, verify, given)


def _read_raw(cls: type[_I], part: RawPart, verify: bool, given: Mapping[str, Any]) -> _I:
    from larun.io import pixeldigest
    from larun.io.digested import all_digested

    found = open_part(part, cls, given)
    known = ""
    try:
        together = all_digested(found.reader) if verify else None
        if together is None:
            data, no_data = found.reader.all()
        else:
            data, known, no_data = *together, None
    finally:
        found.reader.close()
    flags = np.zeros(data.shape, np.uint32)  # never touched, so for free, where nothing is flagged
    if no_data is not None:
        flags[no_data] = fl.NO_DATA
    own = registry.ask(found.camera, "flag_raw", str(part), data, found.header, 0)
    variance, beside = companions.read(found, data.shape)
    flagged = [more for more in (own, beside) if more is not None]
    if flagged:
        for more in flagged:
            flags |= more
        flags = fl.resolve_bad(flags)

    @functools.cache
    def digest() -> str:
        if known and variance is None and not flagged:
            return known
        if variance is None:
            return pixeldigest.pixel_digest(data, no_data, flags & ~fl.NO_DATA if flagged else None)
        return pixel_digest(data, variance, flags)

    image: _I = found.camera(
        data=data,
        variance=variance,
        flags=flags,
        unit=found.camera.raw_unit(found.header),
        header=found.header,
        wcs_header=wcs_cards(found.header),
        detector=found.detector,
        provenance=found.root(digest() if verify else digest),
    )
    return image


def _read_product(cls: type[_I], path: Path, verify: bool) -> _I:
    from larun.io.product import read_product

    parts = read_product(path, verify=verify)
    made = registry.by_name(parts.class_name)
    if made is None:
        made = registry.by_name("larun.instruments.generic:Generic")
        assert made is not None
        warnings.warn(
            f"{path}: was written by class {parts.class_name!r}, which is not known here: read as Generic; "
            "import the module that defines it first, or name its file (larun.instruments.load, --instrument)",
            LarunWarning,
            stacklevel=4,
        )
    if not issubclass(made, cls):
        raise FileError(f"{path}: holds a {made.__name__}, not a {cls.__name__}: use {made.__name__}.read(path)")
    record = parts.record
    try:
        extra = {name: record["fields"][name] for name in record_fields(made)}
        held = dict(parts.planes)
        extra |= {name: held[hdu] for name, hdu in plane_fields(made).items()}
        detector = Detector.from_dict(record["detector"])
        provenance = Provenance.from_dict(record["provenance"], str(path))
    except KeyError as error:
        raise CorruptProduct(f"{path}: its record lacks {error}") from error
    image: _I = made(
        data=parts.data,
        variance=parts.variance,
        flags=parts.flags,
        shared=tuple(Shared(master, plane) for master, plane in parts.shared),
        noise_acf=parts.noise_acf,
        resampling=parts.resampling,
        unit=parts.unit,
        header=parts.header,
        wcs_header=parts.wcs_header,
        detector=detector,
        provenance=provenance,
        **extra,
    )
    return image


def write(
    image: Image,
    path: str | Path,
    *,
    overwrite: bool,
    recipe: Recipe | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Path:
    """See :meth:`larun.model.image.Image.write`."""
    from larun.io.product import ProductParts, write_product

    record: dict[str, Any] = {
        "detector": image.detector.to_dict(),
        "provenance": image.provenance.to_dict(),
        "environment": dict(environment()),
        "fields": {name: plain_field(image, name) for name in record_fields(type(image))},
    }
    if recipe is not None:
        record["recipe"] = recipe._note(image)
    if verdicts:
        record["checks"] = [verdict.note for verdict in verdicts]
    parts = ProductParts(
        class_name=registry.name_of(type(image)),
        header=image._header,
        data=image.data,
        variance=image.variance,
        flags=image.flags,
        shared=tuple((item.master, item.variance) for item in image.shared),
        noise_acf=image.noise_acf,
        resampling=image._resampling,
        unit=image.unit,
        wcs_header=image._wcs_header,
        record=record,
        planes=tuple((hdu, getattr(image, name)) for name, hdu in plane_fields(type(image)).items()),
        remarks=tuple(str(verdict) for verdict in verdicts if not verdict.passed),
    )
    write_product(Path(path), parts, overwrite=overwrite)
    return Path(path)


def plain_field(image: Image, name: str) -> Any:
    """The value of a field as it can be pickled or written: a read-only mapping becomes a dict."""
    value = getattr(image, name)
    return dict(value) if isinstance(value, Mapping) and not hasattr(value, "cards") else value


def plane_fields(cls: type[Any]) -> dict[str, str]:
    """Names of the planes a class adds, and of the HDU that holds each."""
    return {f.name: f.metadata["plane"] for f in attrs.fields(cls) if "plane" in f.metadata}


def pixel_planes(cls: type[Any]) -> tuple[str, ...]:
    """Names of the planes a class adds that have the shape of the image; others are kernels, say."""
    return tuple(f.name for f in attrs.fields(cls) if "plane" in f.metadata and not f.metadata.get("beside"))


def cropped_planes(image: Image, cut: tuple[slice, slice]) -> dict[str, Any]:
    """A window of the planes that a class adds, and where the middle of the whole image lies on it."""
    made: dict[str, Any] = {name: getattr(image, name)[cut].copy() for name in pixel_planes(type(image))}
    for name in _domains(image):
        middle_x, wide_x, middle_y, wide_y = getattr(image, name)
        made[name] = middle_x - cut[1].start, wide_x, middle_y - cut[0].start, wide_y
    return made


def _domains(image: Image) -> list[str]:
    """Fields that say where the middle of the image lies, and how far it reaches."""
    return [f.name for f in attrs.fields(type(image)) if f.metadata.get("domain")]


def binned_planes(image: Image, factor: int) -> dict[str, Any]:
    """The planes that a class adds, over blocks: the mean of a share, the least of a number.

    Raises
    ------
    OptionError
        If it carries a kernel or a PSF, which are those of its own pixels.
    """
    beside = set(plane_fields(type(image))) - set(pixel_planes(type(image)))
    if beside:
        raise OptionError(
            f"{image!r} carries {' and '.join(sorted(beside))} of its own pixels, which no blocks have: bin the frames "
            "that it is made of"
        )
    return {name: binned_plane(getattr(image, name), factor) for name in plane_fields(type(image))}


def binned_plane(plane: NDArray[Any], factor: int) -> NDArray[Any]:
    """One of the planes that a class adds, over blocks."""
    ny, nx = (size // factor for size in plane.shape)
    blocks = plane[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    whole = plane.dtype.kind in "iu"
    return np.asarray(blocks.min((1, 3)) if whole else blocks.mean((1, 3), dtype=np.float64).astype(plane.dtype))


def record_fields(cls: type[Any]) -> tuple[str, ...]:
    """Names of the plain fields a class adds to the planes of an image: they travel in the record."""
    planes = {
        "data",
        "variance",
        "flags",
        "shared",
        "noise_acf",
        "_resampling",
        "unit",
        "_header",
        "_wcs_header",
        "detector",
    }
    planes |= set(plane_fields(cls))
    return tuple(f.name for f in attrs.fields(cls) if f.name not in planes | {"provenance"} and not passing(f))


def passing(field: attrs.Attribute[Any]) -> bool:
    """Whether a field holds only what is at hand beside the value: it is neither written, pickled nor compared."""
    return bool(field.metadata.get("passing"))
