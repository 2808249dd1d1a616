"""A star of a light curve on static light: both fitted together on stamps of the frames as they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun import flags as fl
from larun.algorithms.psf import PSF, moffat_psf
from larun.algorithms.scene import SceneFit, SceneOptions, fit_scene
from larun.errors import CatalogError, LarunError, LarunWarning, OptionError
from larun.model.planes import total_variance
from larun.provenance import unrecorded

if TYPE_CHECKING:
    from larun.model.lightcurve import LightCurve
    from larun.model.sky import SkyImage

__all__ = ["scene"]

_BETA = 3.0


def scene(
    curve: LightCurve,
    frames: Iterable[SkyImage | str | Path],
    star: int,
    absent: ArrayLike | None,
    options: SceneOptions,
) -> SceneFit:
    """See :meth:`larun.LightCurve.scene`."""
    from larun.model.sky import SkyImage

    step = curve.provenance.step
    if step is None or "frames" not in step.fitted:
        raise CatalogError("the record of this light curve has no transforms: extract it from frames first")
    table = curve.curve(star)
    places = {note["frame"]: k for k, note in enumerate(step.fitted["frames"])}
    found: dict[int, tuple[Any, ...]] = {}
    for given in frames:
        image: SkyImage = given if isinstance(given, SkyImage) else SkyImage.read(given)
        k = places.get(image.provenance.id)
        if k is None:
            raise OptionError(f"{image!r} is none of the frames of this light curve")
        note, row = step.fitted["frames"][k], table[k]
        loss = 10 ** (0.4 * float(row["zero_point"].value))
        found[k] = (
            *_stamp(image, float(row["x"].value), float(row["y"].value), options.reach, loss),
            note.get("matrix"),
        )
    if len(found) != len(places):
        raise OptionError(f"{len(found)} of the {len(places)} frames of this light curve: give all of them")
    rows = [found[k] for k in range(len(found))]
    turns = np.array([np.eye(2) if row[4] is None else row[4] for row in rows])
    return fit_scene(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        [row[2] for row in rows],
        np.array([row[3] for row in rows]),
        matrices=turns,
        absent=absent,
        options=options,
    )


def _stamp(
    image: SkyImage, x: float, y: float, reach: int, loss: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], PSF, tuple[float, float]]:
    """Pixels around a star on the flux scale of all frames, their smooth variance, the PSF, and where the star is."""
    psf = _psf(image)
    side = reach + int(np.ceil(1.5 * psf.fwhm))
    column, row = round(x), round(y)
    ny, nx = image.shape
    data = np.full((2 * side + 1, 2 * side + 1), np.nan)
    noise = data.copy()
    low, left = max(row - side, 0), max(column - side, 0)
    here = slice(low, min(row + side + 1, ny)), slice(left, min(column + side + 1, nx))
    inner = tuple(
        slice(part.start - first + side, part.stop - first + side)
        for part, first in zip(here, (row, column), strict=True)
    )
    good = (image.flags[here] & fl.UNUSABLE) == 0
    data[inner] = np.where(good, image.data[here], np.nan)
    variance = total_variance(image)
    assert variance is not None
    noise[inner] = _smooth(np.where(good, variance[here], np.nan), psf.fwhm)
    return data * loss, noise * loss**2, psf, (x - column + side, y - row + side)


def _smooth(variance: NDArray[np.float64], fwhm: float) -> NDArray[np.float64]:
    """Variance as neighbours have it: a weight from a pixel's own value would make fluxes too small."""
    from scipy.ndimage import uniform_filter

    size = max(3, 2 * round(fwhm / 2) + 1)
    known = np.isfinite(variance)
    total = uniform_filter(np.where(known, variance, 0.0), size, mode="nearest")
    share = uniform_filter(known.astype(float), size, mode="nearest")
    return np.where(known & (share > 0), total / np.maximum(share, 1e-9), np.nan)


def _psf(image: SkyImage) -> PSF:
    """Of the stars of a frame; a Moffat profile of their size where they do not give one."""
    with warnings.catch_warnings(), unrecorded():
        warnings.simplefilter("ignore", LarunWarning)
        try:
            return image.psf().function
        except LarunError:
            return moffat_psf(float(image.star_size().fwhm), _BETA)
