"""The loops of the calibration: rows of contiguous planes in, rows out, one loop for each result."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel
from larun.flags import BAD, FLAT_INVALID, NO_DATA, NONLINEAR, SATURATED, UNUSABLE

__all__ = ["LEAST_FLAT", "Inputs", "Numbers", "bits_rows", "calibrate_rows", "shared_rows", "sigma_rows"]

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
def _copy_row(plane: NDArray[np.float32], y: int, row: NDArray[np.float32]) -> None:
    """Copy a row if there is one (a loop: numba compiles the error message of an array assignment for seconds)."""
    if plane.size:
        for x in range(len(row)):
            row[x] = plane[y, x]


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
    infinity, zero, one = np.float32(np.inf), np.float32(0), np.float32(1)
    none, least = np.uint32(0), values.least_flat
    signal, slope = np.empty(nx), np.ones(nx)
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
        for x in range(nx):
            sensitivity, current = flat[x], dark[x]
            divisor = np.float64(sensitivity if (sensitivity >= least) & (sensitivity < infinity) else one)
            electrons = signal[x] * gain - dark_gain * np.float64(current if abs(current) < infinity else zero)
            data[x] = np.float32(electrons / divisor)
        for x in range(nx):
            sensitivity, noise, electrons = flat[x], read_noise * slope[x], signal[x] * gain
            divisor = np.float64(sensitivity if (sensitivity >= least) & (sensitivity < infinity) else one)
            positive = 0.5 * (electrons + abs(electrons))  # exact, and NaN stays
            variance[x] = np.float32((positive + noise * noise) / (divisor * divisor))
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


@kernel
def shared_rows(
    data: NDArray[np.float32],
    flat: NDArray[np.float32],
    variance: NDArray[np.float32],
    opposite: NDArray[np.float32],
    scale: float,
    exposure: float,
    by_data: bool,
    out: NDArray[np.float32],
) -> None:
    """One term of :func:`larun.algorithms.calibrate.shared_variance` for some rows."""
    rows, nx = out.shape
    infinity = np.float32(np.inf)
    divisor, back = np.ones(nx, np.float32), np.zeros(nx, np.float32)
    for y in range(rows):
        _copy_row(flat, y, divisor)
        _copy_row(opposite, y, back)
        for x in range(nx):
            valid = LEAST_FLAT <= divisor[x] < infinity
            amplitude = np.float64(data[y, x]) if by_data else scale
            amplitude = amplitude / np.float64(divisor[x]) if valid else (0.0 if by_data else amplitude)
            sigma = np.sqrt(np.float64(variance[y, x])) - exposure * np.sqrt(np.float64(back[x]))
            added = (amplitude * sigma) ** 2
            out[y, x] = np.float32(added) if abs(added) < infinity and abs(data[y, x]) < infinity else np.float32(0)


@kernel
def sigma_rows(
    planes: Any,
    flat: NDArray[np.float32],
    noise: NDArray[np.float32],
    constant: Any,
    place: int,
    out: NDArray[np.float32],
) -> None:
    """:func:`larun.algorithms.calibrate.total_sigma` for some rows; an absent plane is a single row."""
    data, variance = planes
    rows, nx = out.shape
    infinity, zero, least = np.float32(np.inf), np.float32(0), np.float32(LEAST_FLAT)
    term = np.empty(nx, np.float32)
    for y in range(rows):
        values, own, sigma = data[y], variance[y], out[y]
        divisor, spread = flat[min(y, flat.shape[0] - 1)], noise[min(y, noise.shape[0] - 1)]
        first, second = constant[0][min(y, constant[0].shape[0] - 1)], constant[1][min(y, constant[1].shape[0] - 1)]
        for x in range(nx):  # as in shared_rows, bit for bit
            sensitivity, value = divisor[x], values[x]
            valid = (sensitivity >= least) & (sensitivity < infinity)
            amplitude = np.float64(value) / np.float64(sensitivity) if valid else 0.0
            root = amplitude * np.sqrt(np.float64(spread[x]))
            added = root * root
            term[x] = np.float32(added) if (abs(added) < infinity) & (abs(value) < infinity) else zero
        # summed in the order of the masters' ids, as anybody would who looks at plane after plane
        if place == 0:
            for x in range(nx):
                total = np.float64(own[x]) + np.float64(term[x]) + np.float64(first[x]) + np.float64(second[x])
                sigma[x] = np.float32(np.sqrt(total))
        elif place == 1:
            for x in range(nx):
                total = np.float64(own[x]) + np.float64(first[x]) + np.float64(term[x]) + np.float64(second[x])
                sigma[x] = np.float32(np.sqrt(total))
        else:
            for x in range(nx):
                total = np.float64(own[x]) + np.float64(first[x]) + np.float64(second[x]) + np.float64(term[x])
                sigma[x] = np.float32(np.sqrt(total))
