"""A window of an image on other pixels, of the part of the image that it sees: the same bits as of the whole."""

from __future__ import annotations

from collections.abc import Iterable

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

#: Pixels around a position that it may see: three of the kernel, four of those that stand in for a bad one.
_REACH = 8


def seen_by(mapping: Mapping, section: Section, shape: tuple[int, int]) -> Section:
    """The part of the input that a window sees through a mapping; one pixel where it sees none.

    Parameters
    ----------
    mapping : Mapping
        From the pixels of the output.
    section : Section
        Of the output.
    shape : tuple of int
        Rows and columns of the input.
    """
    return mapping.sees(section, shape, _REACH)


def regridded_window(
    planes: tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint32], Iterable[Shared]],
    seen: Section,
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
    mapping, before = alignment.mapping.part(section)
    mapping = mapping.on_part(seen.x0, seen.y0)
    how = attrs.evolve(options, kernel=chosen_kernel(alignment.mapping, options.kernel))  # by all of its rows
    made = resample(data, variance, flags, mapping, options=how)
    noises = tuple(
        Shared(shared_on(item.master, alignment), resample_variance(item.variance, mapping, options=how)[:, before:])
        for item in shared
    )
    noise = None if made.variance is None else made.variance[:, before:]
    return Resampled(made.data[:, before:], noise, made.flags[:, before:]), noises
