"""What the noise of the masters adds to the variance of a calibrated frame.

It is the same in every frame a master calibrates: a stack does not average it out. A calibrated pixel is
``(g (raw - o - B) - g t D) / F``, so that to first order

- bias: ``(g/F)² (σ_B - t σ_BD)²``, with ``σ_BD`` the noise that the same bias left in the dark, made as
  ``(frame - B)/t_d``: the dark brings part of the bias back, all of it for ``t = t_d``;
- dark: ``(g t/F)² var(D)``;
- flat: ``(data/F)² var(F)``.

Where the flat is invalid it is taken as 1 without variance, as in the calibration; where a variance or the data are not
finite nothing is added. (The slope of a linearity correction is taken as 1 in the bias term.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.calibrate import check_shapes
from larun.algorithms.calibrate_kernels import LEAST_FLAT
from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError

__all__ = ["MOST_TERMS", "NoiseTerm", "bias_noise", "dark_noise", "flat_noise", "shared_variance", "total_variance"]

MOST_TERMS = 4  # that are summed in one pass: bias, dark, the dark's own bias, flat
_BAND = 64  # rows at a time


class NoiseTerm(NamedTuple):
    """One term: ``((scale or data) / F)² (√variance - exposure √opposite)²``, planes (rows, nx)."""

    variance: NDArray[np.float32]
    opposite: NDArray[np.float32] | None
    scale: np.float32
    exposure: np.float32
    by_data: bool


@kernel
def _divide_row(values: Any, divisor: Any, inverse: Any, relative: Any) -> None:
    """``1 / F`` and ``data / F`` of a row; 1 and 0 where the flat is none."""
    infinity, zero, one, least = np.float32(np.inf), np.float32(0), np.float32(1), np.float32(LEAST_FLAT)
    for x in range(len(values)):
        sensitivity = divisor[x]
        valid = (sensitivity >= least) & (sensitivity < infinity)
        inverse[x] = one / (sensitivity if valid else one)
        relative[x] = values[x] * inverse[x] if valid else zero


@kernel
def _add_row(term: NoiseTerm, y: int, values: Any, inverse: Any, relative: Any, total: Any) -> None:
    """Add one term to a row, in single precision: a variance needs no more. Nothing where it is not finite."""
    infinity, zero, scale, exposure = np.float32(np.inf), np.float32(0), term.scale, term.exposure
    noise = term.variance[y]
    if term.by_data:
        for x in range(len(total)):
            added = relative[x] * relative[x] * noise[x]
            total[x] += added if (abs(added) < infinity) & (abs(values[x]) < infinity) else zero
    elif exposure == zero:
        for x in range(len(total)):
            amplitude = scale * inverse[x]
            added = amplitude * amplitude * noise[x]
            total[x] += added if (abs(added) < infinity) & (abs(values[x]) < infinity) else zero
    else:
        back = term.opposite[min(y, term.opposite.shape[0] - 1)]  # type: ignore[index,union-attr]  # there is one
        for x in range(len(total)):
            root = scale * inverse[x] * (np.sqrt(noise[x]) - exposure * np.sqrt(back[x]))
            added = root * root
            total[x] += added if (abs(added) < infinity) & (abs(values[x]) < infinity) else zero


@kernel
def shared_rows(
    data: NDArray[np.float32], flat: NDArray[np.float32], term: NoiseTerm, out: NDArray[np.float32]
) -> None:
    """One term of :func:`shared_variance` for some rows of zeros; an absent flat is a single row."""
    rows, nx = out.shape
    inverse, relative = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for y in range(rows):
        _divide_row(data[y], flat[min(y, flat.shape[0] - 1)], inverse, relative)
        _add_row(term, y, data[y], inverse, relative, out[y])


@kernel
def total_rows(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    flat: NDArray[np.float32],
    terms: Any,
    out: NDArray[np.float32],
) -> None:
    """:func:`total_variance` for some rows; terms without rows are left out."""
    rows, nx = out.shape
    inverse, relative = np.empty(nx, np.float32), np.empty(nx, np.float32)
    for y in range(rows):
        own, total = variance[y], out[y]
        _divide_row(data[y], flat[min(y, flat.shape[0] - 1)], inverse, relative)
        for x in range(nx):
            total[x] = own[x]
        for number in range(len(terms)):
            if terms[number].variance.shape[0] > 0:
                _add_row(terms[number], y, data[y], inverse, relative, total)


def bias_noise(
    variance: NDArray[np.float32], *, gain: float, exposure: float = 0.0, in_dark: NDArray[np.float32] | None = None
) -> NoiseTerm:
    """What a bias adds.

    Parameters
    ----------
    variance : ndarray, (rows, nx)
        Of the bias, ADU².
    gain : float
        Electrons per ADU.
    exposure : float
        Seconds of dark current that are subtracted.
    in_dark : ndarray, (rows, nx), optional
        What this bias contributed to the variance of the dark, (ADU/s)².
    """
    if in_dark is None:
        return NoiseTerm(variance, None, np.float32(gain), np.float32(0), False)
    return NoiseTerm(variance, in_dark, np.float32(gain), np.float32(exposure), False)


def dark_noise(variance: NDArray[np.float32], *, gain: float, exposure: float) -> NoiseTerm:
    """What a dark, or another bias in it, adds: from a variance in (ADU/s)²."""
    return NoiseTerm(variance, None, np.float32(gain * exposure), np.float32(0), False)


def flat_noise(variance: NDArray[np.float32]) -> NoiseTerm:
    """What a flat of this variance adds: it grows with the signal."""
    return NoiseTerm(variance, None, np.float32(0), np.float32(0), True)


def shared_variance(
    data: NDArray[np.float32], flat: NDArray[np.float32] | None, term: NoiseTerm
) -> NDArray[np.float32]:
    """What one master adds to the variance of a calibrated block.

    Parameters
    ----------
    data : ndarray, (rows, nx)
        The calibrated block, electrons.
    flat : ndarray or None, (rows, nx)
        The flat it was divided by.
    term : NoiseTerm
        From :func:`bias_noise`, :func:`dark_noise` or :func:`flat_noise`.

    Returns
    -------
    ndarray of float32, (rows, nx)
        Electrons².

    Raises
    ------
    OptionError
        If a shape differs, or the noise is that of a flat and there is no flat.

    Examples
    --------
    >>> ones = np.ones((1, 1), np.float32)
    >>> shared_variance(ones, None, bias_noise(3 * ones, gain=2.0)).tolist()
    [[12.0]]
    """
    _check(data, flat, [term])
    out, one = np.zeros(data.shape, np.float32), _row(1, data)

    def work(start: int, stop: int) -> None:
        cut = slice(start, stop)
        shared_rows(read_only(data[cut], np.float32), _rows(flat, one, cut), _cut(term, data, cut), out[cut])

    over_rows(len(data), work, band=_BAND)
    return out


def total_variance(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    flat: NDArray[np.float32] | None,
    terms: Sequence[NoiseTerm],
) -> NDArray[np.float32]:
    """A calibrated block's own variance and what its masters add, in one pass.

    Parameters
    ----------
    data, variance : ndarray, (rows, nx)
        The calibrated block.
    flat : ndarray or None, (rows, nx)
        The flat it was divided by.
    terms : sequence of NoiseTerm
        At most :data:`MOST_TERMS`, in the order in which they are summed.

    Returns
    -------
    ndarray of float32, (rows, nx)
        Bit for bit the sum (float32) of the variance and the planes of :func:`shared_variance`, electrons².

    Raises
    ------
    OptionError
        As for :func:`shared_variance`.
    """
    _check(data, flat, terms)
    absent = NoiseTerm(np.empty((0, 0), np.float32), None, np.float32(0), np.float32(0), False)
    all_terms = [*terms, *[absent] * (MOST_TERMS - len(terms))]
    out, one = np.empty(data.shape, np.float32), _row(1, data)

    def work(start: int, stop: int) -> None:
        cut = slice(start, stop)
        total_rows(
            read_only(data[cut], np.float32),
            read_only(variance[cut], np.float32),
            _rows(flat, one, cut),
            tuple(_cut(term, data, cut) for term in all_terms),
            out[cut],
        )

    over_rows(len(data), work, band=_BAND)
    return out


def _check(data: NDArray[np.float32], flat: NDArray[np.float32] | None, terms: Sequence[NoiseTerm]) -> None:
    check_shapes(data.shape, flat=flat)
    for term in terms:
        check_shapes(data.shape, variance=term.variance, in_dark=term.opposite)
        if term.by_data and flat is None:
            raise OptionError("the noise of a flat was given without the flat: give both")


def _row(value: float, data: NDArray[np.float32]) -> NDArray[Any]:
    return read_only(np.full((1, data.shape[1]), value), np.float32)


def _rows(plane: NDArray[np.float32] | None, absent: NDArray[Any], cut: slice) -> NDArray[Any]:
    return absent if plane is None else read_only(plane[cut], np.float32)


def _cut(term: NoiseTerm, data: NDArray[np.float32], cut: slice) -> NoiseTerm:
    return term._replace(
        variance=read_only(term.variance[cut], np.float32), opposite=_rows(term.opposite, _row(0, data), cut)
    )
