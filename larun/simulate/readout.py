"""From electrons in the pixels to raw counts, for any detector that larun can describe.

The inverse of calibration: each amplifier has its own gain, read noise, linearity, saturation and bias level, and its
data and overscan sections may lie anywhere in the raw array (Janesick 2001, Scientific Charge-Coupled Devices,
chapters 2 and 6; Howell 2006, Handbook of CCD Astronomy, chapter 3). In a pixel that holds ``N`` electrons the
converter finds

    raw = level + bias + s + read noise,   s (1 + c1 s + c2 s² + …) = N / gain,

rounded to whole counts and cut at the saturation level. Overscan pixels have ``N = 0``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from larun.detector import Amplifier, Detector, Section
from larun.errors import FileError, OptionError

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["RawFrame", "photons", "raw_frame", "read_out"]

_LEVEL = 1000.0  # ADU: the bias level where nothing says another
_TABLE = 4097  # points of the table that starts the search for the inverse of a linearity polynomial
# Cards that say how pixels were stored: they do not fit other pixels. The right ones are made when a file is written.
_STORAGE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|INHERIT|GROUPS|PCOUNT|GCOUNT|BSCALE|BZERO|BLANK|DATAMIN|DATAMAX|CHECKSUM"
    r"|DATASUM|TFIELDS|THEAP|T(TYPE|FORM|UNIT|DIM|SCAL|ZERO|NULL|DISP)\d+|ZIMAGE|ZCMPTYPE|ZBITPIX|ZNAXIS\d*|ZTILE\d+"
    r"|ZNAME\d+|ZVAL\d+|ZSIMPLE|ZTENSION|ZEXTEND|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM|ZQUANTIZ|ZDITHER0|ZMASKCMP|ZBLANK"
    r"|ZBLOCKED"
)


class RawFrame(NamedTuple):
    """A raw frame and its truth.

    Attributes
    ----------
    data : ndarray
        The whole raw array, overscan included, in ADU.
    header : astropy.io.fits.Header
        Its header.
    bias_levels : tuple of float
        Bias level of each amplifier in this frame, ADU.
    cosmics : ndarray of float32
        Electrons that cosmic rays left in the light-sensitive pixels.
    """

    data: NDArray[Any]
    header: Header
    bias_levels: tuple[float, ...]
    cosmics: NDArray[np.float32]

    @property
    def bias_level(self) -> float:
        """Bias level of the first amplifier, ADU."""
        return self.bias_levels[0]

    def write(self, path: str | Path) -> Path:
        """Write a FITS file with the pixels in its primary HDU.

        Raises
        ------
        FileError
            If the file exists, or cannot be written.
        """
        from astropy.io import fits

        path = Path(path)
        try:
            fits.PrimaryHDU(self.data, self.header).writeto(path, output_verify="silentfix")
        except OSError as error:
            raise FileError(f"{path}: the raw frame cannot be written: {error}") from error
        return path


def photons(expected: ArrayLike, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Electrons that are found where so many are expected: Poisson numbers.

    Raises
    ------
    OptionError
        If an expected value is negative, not finite, or beyond what can be counted (9e18).

    Examples
    --------
    >>> photons([0.0, 1e6], rng=np.random.default_rng(1)).round(-4).tolist()
    [0.0, 1000000.0]
    """
    values = np.asarray(expected, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values < 9e18).all()):
        raise OptionError("expected electrons must be finite and at least 0 in every pixel")
    return np.asarray(rng.poisson(values), dtype=np.float64)


def read_out(
    detector: Detector,
    electrons: ArrayLike,
    *,
    rng: np.random.Generator,
    shape: tuple[int, int] | None = None,
    bias_levels: float | Sequence[float] | None = None,
    bias: ArrayLike = 0.0,
    dtype: DTypeLike = np.uint16,
) -> NDArray[Any]:
    """The raw array that a detector makes of the electrons in its pixels.

    Parameters
    ----------
    detector : Detector
        Of the raw array: one amplifier or more, each with gain and read noise, its data section and, if it has one, its
        overscan section.
    electrons : array_like, shape ``detector.trimmed_shape``
        Electrons in each light-sensitive pixel, photon noise included (:func:`photons`), in the mosaic that
        calibration will give back.
    rng : numpy.random.Generator
        Source of the read noise.
    shape : tuple of int, optional
        (ny, nx) of the raw array; by default the smallest that holds all sections.
    bias_levels : float or one for each amplifier, optional
        ADU; by default the amplifier's pedestal, or 1000 where it has none.
    bias : array_like
        ADU on top of the levels: of the shape of ``electrons``, structure of the light-sensitive pixels that the
        overscan does not show; of the raw shape, anything that every raw pixel shows, such as pickup.
    dtype : data-type
        Of the result. Integers are rounded, and cut at what the type holds.

    Returns
    -------
    ndarray of dtype, (ny, nx)
        Counts. Pixels at or above an amplifier's saturation level read exactly this level, rounded up. Raw pixels of no
        section (gaps, corners of two overscans) hold level and noise of the nearest amplifier.

    Raises
    ------
    OptionError
        If gain or read noise of an amplifier is missing or impossible, sections lie outside the array or two data
        sections overlap, a shape or a number of levels does not fit, or a linearity polynomial cannot be inverted.

    Examples
    --------
    >>> from larun import Amplifier, Detector, Section
    >>> left = Amplifier(data=Section(0, 4, 0, 3), overscan=Section(0, 4, 6, 8), gain=2.0, read_noise=0.0, name="left")
    >>> right = Amplifier(data=Section(0, 4, 3, 6), overscan=Section(0, 4, 8, 10), gain=1.0, read_noise=0.0)
    >>> detector = Detector(amplifiers=(left, right))
    >>> raw = read_out(detector, np.full((4, 6), 100.0), rng=np.random.default_rng(1), bias_levels=(300.0, 500.0))
    >>> raw[0].tolist()
    [350, 350, 350, 600, 600, 600, 300, 300, 500, 500]
    """
    values, levels, shape = _checked(detector, electrons, shape, bias_levels)
    structure = np.asarray(bias)
    kind = np.dtype(dtype)
    if kind.kind not in "uif":
        raise OptionError(f"dtype = {kind}: raw counts are integers or floats")
    everywhere = structure.ndim > 0 and structure.shape == shape != values.shape
    if not everywhere and structure.ndim > 0 and structure.shape != values.shape:
        raise OptionError(f"bias has shape {structure.shape}: give that of the electrons, {values.shape}, or {shape}")
    if not np.isfinite(structure).all():
        raise OptionError("bias must be finite in every pixel")

    raw = rng.standard_normal(shape)
    tops = [_top(amplifier, kind) for amplifier in detector.amplifiers]
    owners = _owners(detector, shape)
    for number, amplifier in enumerate(detector.amplifiers):
        noise = _given(amplifier, "read_noise") / _given(amplifier, "gain")
        mine = ... if owners is None else owners == number
        raw[mine] = levels[number] + noise * raw[mine]
    if everywhere:
        raw += structure
    for level, top, amplifier, at in zip(levels, tops, detector.amplifiers, _places(detector), strict=True):
        block = raw[amplifier.data.slices]
        block += _nonlinear(values[at.slices] / _given(amplifier, "gain"), amplifier, top - level)
        if not everywhere:
            block += structure[at.slices] if structure.ndim else structure
    limit = tops[0] if owners is None else np.asarray(tops)[owners]
    lowest = float(np.iinfo(kind).min) if kind.kind in "ui" else -math.inf
    return np.clip(np.rint(raw) if kind.kind in "ui" else raw, lowest, limit).astype(kind)


def raw_frame(
    header: Header,
    detector: Detector,
    electrons: ArrayLike,
    *,
    rng: np.random.Generator,
    shape: tuple[int, int] | None = None,
    bias_levels: float | Sequence[float] | None = None,
    bias: ArrayLike = 0.0,
    dtype: DTypeLike = np.uint16,
) -> RawFrame:
    """Simulated pixels under a given header: a camera can be tested of which there is no more than the header's text.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of a raw frame of the camera, a real one for example (``Header.fromtextfile(path)``). It is copied;
        cards that say how the pixels were stored (BITPIX, BZERO, compression, checksums) are left out of the copy.
    detector : Detector
        As the camera's class reads it from this header: ``MyCamera.detector_for(header, shape)``.
    electrons, rng, bias_levels, bias, dtype
        As in :func:`read_out`.
    shape : tuple of int, optional
        (ny, nx) of the raw array; by default what NAXIS2 and NAXIS1 (or ZNAXIS2 and ZNAXIS1) say, or else the smallest
        that holds all sections.

    Returns
    -------
    RawFrame
        ``write(path)`` makes it a file; ``Frame.from_arrays(raw.data, header=raw.header, detector=detector)`` does
        without.

    Raises
    ------
    OptionError
        As :func:`read_out`.

    Examples
    --------
    >>> from astropy.io.fits import Header
    >>> import larun
    >>> header = Header({"NAXIS1": 110, "NAXIS2": 50, "INSTRUME": "Some camera"})
    >>> overscan = larun.Section(0, 50, 100, 110)
    >>> detector = larun.Detector.single((50, 100), overscan=overscan, gain=2.0, read_noise=5.0)
    >>> sky = photons(np.full((50, 100), 400.0), rng=np.random.default_rng(1))
    >>> raw = raw_frame(header, detector, sky, rng=np.random.default_rng(2))
    >>> raw.data.shape, raw.header["INSTRUME"]
    ((50, 110), 'Some camera')
    """
    if shape is None:
        shape = _raw_shape(header, detector)
    data = read_out(detector, electrons, rng=rng, shape=shape, bias_levels=bias_levels, bias=bias, dtype=dtype)
    levels = _levels(detector, bias_levels)
    return RawFrame(data, _without_storage(header), levels, np.zeros(detector.trimmed_shape, np.float32))


def _raw_shape(header: Header, detector: Detector) -> tuple[int, int]:
    """(ny, nx) of a raw array: as the header says where it does and all sections fit, or else the smallest that fits.

    The header of a compressed image is understood; a header of one plane in a cube gives the plane.
    """
    smallest = _smallest(detector)
    for prefix in ("Z", ""):
        nx, ny = header.get(f"{prefix}NAXIS1"), header.get(f"{prefix}NAXIS2")
        if isinstance(nx, int) and isinstance(ny, int) and ny >= smallest[0] and nx >= smallest[1]:
            return ny, nx
    return smallest


def _without_storage(header: Header) -> Header:
    kept = header.copy(strip=False)
    for key in {key for key in kept if _STORAGE.fullmatch(key)}:
        kept.remove(key, ignore_missing=True, remove_all=True)
    return kept


def _smallest(detector: Detector) -> tuple[int, int]:
    sections = [s for a in detector.amplifiers for s in (a.data, a.overscan) if s is not None]
    return max(s.y1 for s in sections), max(s.x1 for s in sections)


def _levels(detector: Detector, bias_levels: float | Sequence[float] | None) -> tuple[float, ...]:
    count = len(detector.amplifiers)
    if bias_levels is None:
        bias_levels = [amplifier.pedestal or _LEVEL for amplifier in detector.amplifiers]
    given = np.asarray(bias_levels, dtype=np.float64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != count) or not np.isfinite(given).all():
        raise OptionError(f"bias_levels = {bias_levels}: give one finite level, or one for each of {count} amplifiers")
    return tuple(float(level) for level in np.broadcast_to(given, count))


def _checked(
    detector: Detector,
    electrons: ArrayLike,
    shape: tuple[int, int] | None,
    bias_levels: float | Sequence[float] | None,
) -> tuple[NDArray[np.float64], tuple[float, ...], tuple[int, int]]:
    """Electrons, levels and shape of the raw array, or what is wrong with them."""
    shape = _smallest(detector) if shape is None else (int(shape[0]), int(shape[1]))
    for amplifier in detector.amplifiers:
        for what, section in (("data", amplifier.data), ("overscan", amplifier.overscan)):
            if section is not None and not section.within(shape):
                raise OptionError(
                    f"amplifier {amplifier.name}: its {what} section {tuple(section)} is empty or lies outside the raw "
                    f"array, {shape}"
                )
    for number, one in enumerate(detector.amplifiers):
        for other in detector.amplifiers[number + 1 :]:
            if one.data.intersect(other.data):
                raise OptionError(
                    f"amplifiers {one.name} and {other.name}: their data sections {tuple(one.data)} and "
                    f"{tuple(other.data)} overlap, so that one pixel would be read twice"
                )
    values = np.asarray(electrons, dtype=np.float64)
    if values.shape != detector.trimmed_shape:
        raise OptionError(
            f"electrons have shape {values.shape}: give them on the trimmed mosaic, {detector.trimmed_shape}"
        )
    if not np.isfinite(values).all():
        raise OptionError("electrons must be finite in every pixel")
    return values, _levels(detector, bias_levels), shape


def _places(detector: Detector) -> tuple[Section, ...]:
    """Where the data section of each amplifier lies in the trimmed mosaic."""
    return tuple(amplifier.data for amplifier in detector.trimmed().amplifiers)


def _given(amplifier: Amplifier, quantity: str) -> float:
    value = getattr(amplifier, quantity)
    low = 0.0 if quantity == "read_noise" else math.ulp(0.0)
    if value is None or not low <= value < math.inf:
        raise OptionError(
            f"amplifier {amplifier.name}: {quantity} = {value}: give it, for example by "
            f"detector.with_values({quantity}=…)"
        )
    return float(value)


def _top(amplifier: Amplifier, kind: np.dtype[Any]) -> float:
    """The highest count that an amplifier's pixels can read."""
    if kind.kind == "f":
        return amplifier.saturation
    top = float(np.iinfo(kind).max) if kind.itemsize < 8 else 2.0**52
    return float(min(math.ceil(amplifier.saturation), top)) if amplifier.saturation < top else top


def _owners(detector: Detector, shape: tuple[int, int]) -> NDArray[np.intp] | None:
    """(ny, nx): the number of the amplifier that reads each raw pixel; None where there is only one."""
    amplifiers = detector.amplifiers
    if len(amplifiers) == 1:
        return None
    owners = np.full(shape, -1, dtype=np.intp)
    for number in reversed(range(len(amplifiers))):  # the first amplifier keeps an overscan that two claim
        section = amplifiers[number].overscan
        if section is not None:
            owners[section.slices] = number
    for number, amplifier in enumerate(amplifiers):
        owners[amplifier.data.slices] = number
    nobody = owners < 0
    if nobody.any():
        nearest = np.full(shape, np.inf)
        found = np.zeros(shape, dtype=np.intp)
        y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
        for number, amplifier in enumerate(amplifiers):
            at = amplifier.data
            distance = np.hypot(
                np.maximum(np.maximum(at.y0 - y, y - (at.y1 - 1)), 0),
                np.maximum(np.maximum(at.x0 - x, x - (at.x1 - 1)), 0),
            )
            closer = distance < nearest
            nearest[closer], found[closer] = distance[closer], number
        owners[nobody] = found[nobody]
    return owners


def _nonlinear(true: NDArray[np.float64], amplifier: Amplifier, highest: float) -> NDArray[np.float64]:
    """The counts above bias that the amplifier shows for true ones: the inverse of its linearity correction.

    Beyond ``highest``, where the converter stops, and below 0 the inverse goes on as a straight line.
    """
    if not amplifier.linearity:
        return true
    highest = max(min(highest, 2.0 * float(true.max(initial=1.0))), 1.0)
    factors = np.array([1.0, *amplifier.linearity])

    def corrected(s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(s * np.polynomial.polynomial.polyval(s, factors))

    slopes = factors * np.arange(1, len(factors) + 1)
    counts = np.linspace(0.0, highest, _TABLE)
    rise = np.polynomial.polynomial.polyval(counts, slopes)
    if not (np.isfinite(rise).all() and rise.min() > 0.05):
        raise OptionError(
            f"amplifier {amplifier.name}: linearity = {amplifier.linearity} does not rise all the way to {highest:.0f} "
            "counts above bias: no count belongs to each true one, so that it cannot be simulated"
        )
    table = corrected(counts)
    s = np.interp(true, table, counts)
    for _ in range(3):  # Newton's steps, from a start that is right to 1e-4 of the range
        inside = np.clip(s, 0.0, highest)
        s = s - (corrected(inside) - np.clip(true, 0.0, table[-1])) / np.polynomial.polynomial.polyval(inside, slopes)
    beyond, below = np.maximum(true - table[-1], 0.0), np.minimum(true, 0.0)
    return np.asarray(s + beyond / rise[-1] + below)
