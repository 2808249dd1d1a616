"""A window of an image on other pixels, of the part of the image that it sees: the same bits as of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.mapping import Mapping
from larun.algorithms.resample import Resampled, ResampleOptions, chosen_kernel, resample, resample_variance
from larun.detector import Section
from larun.model.aligning.regridding import shared_on
from larun.model.aligning.transforms import Alignment
from larun.model.planes import Shared

__all__ = ["regridded_window", "seen_by"]

_Number = TypeVar("_Number", np.float32, np.uint32)

#: Pixels around a position that it may see: three of the kernel, four of those that stand in for a bad one.
_REACH = 8


def seen_by(mapping: Mapping, section: Section, shape: tuple[int, int]) -> Section:
    """The part of the input that a window sees through a linear mapping; one pixel where it sees none.

    Parameters
    ----------
    mapping : Mapping
        From the pixels of the output, linear.
    section : Section
        Of the output.
    shape : tuple of int
        Rows and columns of the input.
    """
    y0, y1, x0, x1 = section
    x, y = mapping.at([x0 - 1, x1, x0 - 1, x1], [y0 - 1, y0 - 1, y1, y1])
    ends = []
    for at, size in ((y, shape[0]), (x, shape[1])):
        low, high = (min(max(value, 0.0), float(size)) for value in (at.min() - _REACH, at.max() + _REACH + 1))
        start = min(math.floor(low), size - 1)
        ends += [start, max(math.ceil(high), start + 1)]
    return Section(*ends)


def regridded_window(
    planes: tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint32], Iterable[Shared]],
    seen: Section,
    shape: tuple[int, int],
    alignment: Alignment,
    options: ResampleOptions,
    section: Section,
) -> tuple[Resampled, tuple[Shared, ...]]:
    """A window of the planes of :func:`larun.model.aligning.regridding.regridded`.

    Parameters
    ----------
    planes : tuple
        Data, variance, flags and the masters' noise of a part of the image.
    seen : Section
        Which part that is (:func:`seen_by`).
    shape : tuple of int
        Rows and columns of the image.
    alignment : Alignment
        From the pixels of the output.
    options : ResampleOptions
        As for the whole.
    section : Section
        Of the output.

    Returns
    -------
    Resampled, tuple of Shared
    """
    data, variance, flags, shared = planes
    mapping = alignment.mapping.rows(section.y0, section.y1)
    how = attrs.evolve(options, kernel=chosen_kernel(alignment.mapping, options.kernel))  # by all of its rows
    # positions keep all their bits only if pixels keep their places; pages that nobody writes to cost nothing
    noise = None if variance is None else _placed(variance, seen, shape)
    full = _placed(data, seen, shape), noise, _placed(flags, seen, shape)
    made = resample(*full, mapping, options=how)
    columns = slice(section.x0, section.x1)

    def cut(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        return plane[:, columns].copy()

    noises = tuple(
        Shared(
            shared_on(item.master, alignment),
            cut(resample_variance(_placed(item.variance, seen, shape), mapping, options=how)),
        )
        for item in shared
    )
    kept = None if made.variance is None else cut(made.variance)
    return Resampled(cut(made.data), kept, made.flags[:, columns].copy()), noises


def _placed(plane: NDArray[_Number], seen: Section, shape: tuple[int, int]) -> NDArray[_Number]:
    """A part at its place among zeros."""
    made = np.zeros(shape, plane.dtype)
    made[seen.slices] = plane
    return made
