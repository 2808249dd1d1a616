"""The loops of the calibration: rows of contiguous planes in, rows out, one loop for each result."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel
from larun.flags import BAD, FLAT_INVALID, NO_DATA, NONLINEAR, SATURATED, UNUSABLE

__all__ = ["LEAST_FLAT", "Inputs", "Numbers", "bits_rows", "calibrate_rows"]

LEAST_FLAT = 1e-3  # a sensitivity this small is none


class Numbers(NamedTuple):
    """An amplifier as the kernel sees it."""

    gain: float
    read_noise: float
    saturation: np.float32
    linear_limit: np.float32
    least_flat: np.float32
    exposure: float
    linearity: NDArray[np.float64]


class Inputs(NamedTuple):
    """Some rows as the kernel sees them; an absent master is a single row."""

    raw: NDArray[np.float32]
    flags: NDArray[np.uint32]
    overscan: NDArray[np.float64]
    bias: NDArray[np.float32]
    dark: NDArray[np.float32]
    flat: NDArray[np.float32]
    known: NDArray[np.uint8]


@kernel
def calibrate_rows(inputs: Inputs, values: Numbers, out: Any) -> None:
    """:func:`larun.algorithms.calibrate.calibrate_block` for some rows."""
    # One loop for each result, without branches and with few arrays: that is what compilers turn into SIMD.
    linearity, gain, read_noise, dark_gain = (
        values.linearity,
        values.gain,
        values.read_noise,
        values.gain * values.exposure,
    )
    saturation, linear_limit = values.saturation, values.linear_limit
    rows, nx = inputs.raw.shape
    infinity, zero, one, half = np.float32(np.inf), np.float32(0), np.float32(1), np.float32(0.5)
    none, least = np.uint32(0), values.least_flat
    signal, slope, inverse = np.empty(nx), np.ones(nx), np.empty(nx)
    for y in range(rows):
        raw, flags, overscan = inputs.raw[y], inputs.flags[y], inputs.overscan[y]
        bias = inputs.bias[min(y, inputs.bias.shape[0] - 1)]
        dark = inputs.dark[min(y, inputs.dark.shape[0] - 1)]
        flat = inputs.flat[min(y, inputs.flat.shape[0] - 1)]
        known = inputs.known[min(y, inputs.known.shape[0] - 1)]
        data, variance, bits = out.data[y], out.variance[y], out.flags[y]
        for x in range(nx):
            value, offset = raw[x], bias[x]
            present = (abs(value) < infinity) & ((flags[x] & NO_DATA) == none)
            above = value - overscan - np.float64(offset if abs(offset) < infinity else zero)
            signal[x] = above if present else np.nan
        if linearity.size:
            for x in range(nx):
                s, factor, change = signal[x], 0.0, 0.0  # Horner: the factor is c1 s + c2 s² + …
                for c in range(linearity.size - 1, -1, -1):
                    change = change * s + (c + 2) * linearity[c]
                    factor = (factor + linearity[c]) * s
                signal[x] = s * (1.0 + factor)
                slope[x] = 1.0 + change * s
        for x in range(nx):  # once: divisions are what this pass costs
            sensitivity = flat[x]
            inverse[x] = 1.0 / np.float64(sensitivity if (sensitivity >= least) & (sensitivity < infinity) else one)
        for x in range(nx):
            current = dark[x]
            electrons = signal[x] * gain - dark_gain * np.float64(current if abs(current) < infinity else zero)
            data[x] = np.float32(electrons * inverse[x])
        for x in range(nx):  # in single precision, which is enough for a variance
            noise, electrons = np.float32(read_noise * slope[x]), np.float32(signal[x] * gain)
            positive, divided = half * (electrons + abs(electrons)), np.float32(inverse[x])  # exact, and NaN stays
            variance[x] = (positive + noise * noise) * (divided * divided)
        for x in range(nx):
            value, offset, current, sensitivity = raw[x], bias[x], dark[x], flat[x]
            found = flags[x] | np.uint32(known[x])
            found |= none if (sensitivity >= least) & (sensitivity < infinity) else FLAT_INVALID
            found |= none if (abs(current) < infinity) & (abs(offset) < infinity) else BAD
            found |= none if abs(value) < infinity else NO_DATA
            found |= NONLINEAR if value > linear_limit else none
            found |= SATURATED if value >= saturation else none
            bits[x] = found & ~SATURATED if (found & BAD) != none else found


@kernel
def bits_rows(bias: NDArray[np.uint32], dark: NDArray[np.uint32], flat: NDArray[np.uint32], out: Any) -> int:
    """:func:`larun.algorithms.calibrate.master_bits` for some rows; the OR of what was found."""
    rows, nx = out.shape
    none, anything = np.uint32(0), np.uint32(0)
    for y in range(rows):
        first, second = bias[min(y, bias.shape[0] - 1)], dark[min(y, dark.shape[0] - 1)]
        third, bits = flat[min(y, flat.shape[0] - 1)], out[y]
        for x in range(nx):
            found = BAD if ((first[x] | second[x]) & UNUSABLE) != none else none
            found |= (third[x] & BAD) | (FLAT_INVALID if (third[x] & UNUSABLE) != none else none)
            bits[x] = np.uint8(found)
            anything |= found
    return int(anything)
