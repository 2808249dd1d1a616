"""From raw counts to electrons: the arithmetic of one amplifier, with its variance and its flags.

The detector makes ``raw = overscan + bias + N(s) / gain`` of ``s`` electrons (light times sensitivity, plus dark), N
the non-linearity. This is undone in the opposite order, in float64, in one pass over the pixels.

The variance of a pixel is that of its own electrons and of the readout, ``max(s, 0) + read_noise²``, with ``s`` the
signal above overscan and bias *before* the dark is subtracted: the electrons of the dark are as random as those of the
light. Where the signal is negative, the read noise is all there is. (Near zero signal this is too high on average, by
``read_noise / √(2π)`` electrons²: negative noise is cut off and positive is not.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.calibrate_kernels import (
    LEAST_FLAT,
    Inputs,
    Numbers,
    bits_rows,
    calibrate_rows,
)
from larun.algorithms.jit import over_rows
from larun.errors import OptionError

__all__ = [
    "AmplifierValues",
    "MasterPlanes",
    "Planes",
    "calibrate_block",
    "calibrate_into",
    "check_shapes",
    "master_bits",
]

_BAND = 64  # rows at a time
_COPIED = 16  # the same where views are copied: what stays in the cache
_KINDS = (np.float32, np.float32, np.float32, np.uint8)  # of bias, dark, flat and known flags


def _coefficients(value: Iterable[float]) -> tuple[float, ...]:
    return tuple(value)


def _positive(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:
        raise OptionError(f"{attribute.name} = {value}: must be a finite number above 0")


def _not_negative(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value < math.inf:
        raise OptionError(f"{attribute.name} = {value}: must be a finite number of at least 0")


@attrs.frozen(kw_only=True)
class AmplifierValues:
    """What the arithmetic has to know of an amplifier.

    Parameters
    ----------
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons, rms.
    saturation, linear_limit : float
        Raw ADU, overscan and bias included: at or above the first a pixel is SATURATED, above the second NONLINEAR.
    linearity : tuple of float
        ``(c1, c2, …)`` of the correction ``true = s (1 + c1 s + c2 s² + …)``, s in ADU above bias.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """

    gain: float = attrs.field(converter=float, validator=_positive)
    read_noise: float = attrs.field(converter=float, validator=_not_negative)
    saturation: float = attrs.field(default=math.inf, converter=float)
    linear_limit: float = attrs.field(default=math.inf, converter=float)
    linearity: tuple[float, ...] = attrs.field(default=(), converter=_coefficients)

    @saturation.validator
    @linear_limit.validator
    def _is_a_level(self, attribute: attrs.Attribute[float], value: float) -> None:
        if math.isnan(value):
            raise OptionError(f"{attribute.name} is NaN: give a level in raw ADU, or infinity if there is none")

    @linearity.validator
    def _is_finite(self, attribute: object, value: tuple[float, ...]) -> None:
        if not all(math.isfinite(c) for c in value):
            raise OptionError(f"linearity = {value}: the coefficients must be finite")


class Planes(NamedTuple):
    """A calibrated block, (rows, nx) each.

    Attributes
    ----------
    data : ndarray of float32
        Electrons; NaN exactly where the flags have NO_DATA.
    variance : ndarray of float32
        Electrons²: of the frame alone, what the masters add is told by ``masternoise``.
    flags : ndarray of uint32
        The flags given, and what was found.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]


class MasterPlanes(NamedTuple):
    """The masters of a block, (rows, nx) each; None where there is none.

    Attributes
    ----------
    bias, dark, flat : ndarray of float32, or None
        As for :func:`calibrate_block`.
    known : ndarray of uint8, or None
        Flags that the masters add to those of the frame.
    """

    bias: NDArray[np.float32] | None = None
    dark: NDArray[np.float32] | None = None
    flat: NDArray[np.float32] | None = None
    known: NDArray[np.uint8] | None = None


def calibrate_block(
    raw: ArrayLike,
    flags: ArrayLike,
    overscan: ArrayLike,
    *,
    amplifier: AmplifierValues,
    bias: NDArray[np.float32] | None = None,
    dark: NDArray[np.float32] | None = None,
    exposure: float = 0.0,
    flat: NDArray[np.float32] | None = None,
) -> Planes:
    """Calibrate the pixels of one amplifier.

    1. SATURATED and NONLINEAR are judged on the raw counts (BAD wins over SATURATED).
    2. Overscan and bias are subtracted, the linearity correction is applied, and the gain once: electrons.
    3. The variance is made, ``max(s, 0) + (read_noise × slope of the linearity correction)²``.
    4. The dark is subtracted.
    5. The data are divided by the flat, the variance by its square.

    A pixel without a finite raw value, or flagged NO_DATA, is NaN in data and variance and flagged NO_DATA. Where the
    flat is not finite or below 0.001 the pixel is flagged FLAT_INVALID and left undivided; where bias or dark are not
    finite it is flagged BAD and that master is left out. So no NaN comes from a master.

    Parameters
    ----------
    raw : array_like, (rows, nx)
        Raw counts, taken as float32; a view of a larger array is fine.
    flags : array_like, (rows, nx)
        Flags of the raw frame, uint32.
    overscan : array_like, (rows,)
        Level to subtract from each row, ADU.
    amplifier : AmplifierValues
        Gain and the rest.
    bias : ndarray, (rows, nx), optional
        ADU above overscan.
    dark : ndarray, (rows, nx), optional
        ADU per second, bias removed.
    exposure : float
        Seconds the dark current was collected for.
    flat : ndarray, (rows, nx), optional
        Relative sensitivity, about 1.

    Returns
    -------
    Planes

    Raises
    ------
    OptionError
        If a shape differs, or there is a dark and the exposure is negative or not finite.

    Examples
    --------
    >>> values = AmplifierValues(gain=2.0, read_noise=5.0, saturation=60000)
    >>> made = calibrate_block([[1100.0, 990.0]], [[0, 0]], [1000.0], amplifier=values)
    >>> made.data.tolist(), made.variance.tolist()
    ([[200.0, -20.0]], [[225.0, 25.0]])
    """
    shape = np.shape(raw)
    out = Planes(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint32))
    calibrate_into(out, raw, flags, overscan, MasterPlanes(bias, dark, flat), amplifier=amplifier, exposure=exposure)
    return out


def calibrate_into(
    out: Planes,
    raw: ArrayLike,
    flags: ArrayLike,
    overscan: ArrayLike,
    masters: MasterPlanes,
    *,
    amplifier: AmplifierValues,
    exposure: float = 0.0,
) -> None:
    """:func:`calibrate_block` into planes that are there already, or into a window of them.

    Parameters
    ----------
    out : Planes
        Where the result goes; views of larger arrays are fine.
    raw, flags, overscan, amplifier, exposure
        As for :func:`calibrate_block`.
    masters : MasterPlanes
        Bias, dark and flat of the block, and what is known of its pixels.

    Raises
    ------
    OptionError
        As for :func:`calibrate_block`.
    """
    counts, bits, level = np.asarray(raw), np.asarray(flags), np.asarray(overscan)
    check_shapes(counts.shape, flags=bits, **masters._asdict())
    if level.shape != counts.shape[:1]:
        raise OptionError(f"overscan has shape {level.shape}: must be one level for each of {counts.shape[0]} rows")
    if masters.dark is not None and not 0 <= exposure < math.inf:
        raise OptionError(f"exposure = {exposure}: must be a finite number of seconds, at least 0")
    values = Numbers(
        amplifier.gain,
        amplifier.read_noise,
        _float32(amplifier.saturation, up=True),
        _float32(amplifier.linear_limit, up=False),
        _float32(LEAST_FLAT, up=True),
        float(exposure) if masters.dark is not None else 0.0,
        read_only(amplifier.linearity, np.float64),
    )
    nx = counts.shape[1]
    # An absent master is one row that changes nothing.
    absent = [read_only(np.full((1, nx), value), kind) for value, kind in zip((0, 0, 1, 0), _KINDS, strict=True)]

    def work(start: int, stop: int) -> None:
        rows = slice(start, stop)
        inputs = Inputs(
            read_only(counts[rows], np.float32),
            read_only(bits[rows], np.uint32),
            read_only(level[rows], np.float64),
            *(
                nothing if plane is None else read_only(plane[rows], kind)
                for plane, nothing, kind in zip(masters, absent, _KINDS, strict=True)
            ),
        )
        wanted = [plane[rows] for plane in out]
        made: list[Any] = [
            plane if plane.flags.c_contiguous else np.empty(plane.shape, plane.dtype) for plane in wanted
        ]
        calibrate_rows(inputs, values, Planes(*made))
        for plane, part in zip(wanted, made, strict=True):
            if part is not plane:  # a window: computed beside it, in the cache
                plane[...] = part

    whole = all(plane.flags.c_contiguous for plane in (counts, bits, *out))
    over_rows(counts.shape[0], work, band=_BAND if whole else _COPIED)


def master_bits(
    shape: tuple[int, int],
    bias: NDArray[np.uint32] | None,
    dark: NDArray[np.uint32] | None,
    flat: NDArray[np.uint32] | None,
) -> NDArray[np.uint8] | None:
    """What the masters' flags mean for a frame: BAD, FLAT_INVALID; None where they say nothing.

    Parameters
    ----------
    shape : tuple of int
        Of every plane.
    bias, dark, flat : ndarray of uint32, or None
        Flags of the masters.

    Returns
    -------
    ndarray of uint8, or None
        BAD where a pixel of bias or dark is unusable or one of the flat is BAD, FLAT_INVALID where one of the flat is
        unusable.

    Examples
    --------
    >>> master_bits((1, 2), np.array([[0, 2]], np.uint32), None, np.array([[8, 0]], np.uint32))
    array([[16,  1]], dtype=uint8)
    """
    check_shapes(shape, bias=bias, dark=dark, flat=flat)
    out, found = np.empty(shape, np.uint8), []
    nothing = read_only(np.zeros((1, shape[1])), np.uint32)

    def work(start: int, stop: int) -> None:
        rows = slice(start, stop)
        planes = [nothing if plane is None else read_only(plane[rows], np.uint32) for plane in (bias, dark, flat)]
        found.append(bits_rows(planes[0], planes[1], planes[2], out[rows]))

    over_rows(shape[0], work, band=256)
    return out if any(found) else None


def _float32(limit: float, *, up: bool) -> np.float32:
    """The least float32 that is not below a limit, or the greatest not above it: what float32 values compare alike."""
    with np.errstate(over="ignore"):
        value = np.float32(limit)
    if up and value < limit:
        return np.float32(np.nextafter(value, np.float32(np.inf)))
    if not up and value > limit:
        return np.float32(np.nextafter(value, np.float32(-np.inf)))
    return value


def check_shapes(shape: tuple[int, ...], **planes: NDArray[Any] | None) -> None:
    """Raise an OptionError unless a block has rows and columns and every plane that is there has its shape."""
    if len(shape) != 2:
        raise OptionError(f"a block must have rows and columns, not the shape {shape}")
    for name, plane in planes.items():
        if plane is not None and plane.shape != shape:
            raise OptionError(f"{name} has shape {plane.shape}, the block {shape}: must be equal")
