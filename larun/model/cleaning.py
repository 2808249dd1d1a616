"""What ``Frame.clean`` computes: one of the engines, with the star size it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.cosmic import CosmicOptions, CosmicRays, lacosmic
from larun.errors import OptionError

if TYPE_CHECKING:
    from larun.model.sky import SkyImage

__all__ = ["ENGINES", "Cleaned", "clean", "options"]

Engine = Callable[..., CosmicRays]


def _astroscrappy() -> Engine:
    from larun.algorithms.engine_astroscrappy import detect

    return detect


def _median() -> Engine:
    from larun.algorithms.cosmic_median import clip_against_median

    return clip_against_median


ENGINES: dict[str, Callable[[], Engine]] = {
    "larun": lambda: lacosmic,
    "astroscrappy": _astroscrappy,
    "median": _median,
}


#: Below this the engine refuses: stars and rays are alike.
_SHARPEST = 1.2


class Cleaned(NamedTuple):
    """Planes with cosmic rays replaced, where they were, and the star size that was assumed."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.bool_]
    fwhm: float | None
    pixels: int


def options(engine: str, *, sigma: float, contrast: float | None, fwhm: float | None, iterations: int) -> CosmicOptions:
    """Validated options of an engine, before any pixel is looked at; a FWHM that is not given is measured later.

    Raises
    ------
    OptionError
        If the engine is unknown, or an option makes no sense for it.
    """
    if engine not in ENGINES:
        raise OptionError(f"engine={engine!r}: must be one of {', '.join(map(repr, ENGINES))}")
    if engine == "astroscrappy":
        if fwhm is not None:
            raise OptionError("fwhm: astroscrappy knows no star size; leave it out, or use engine='larun'")
        contrast = 5.0 if contrast is None else contrast
    return CosmicOptions(
        sigma=sigma, contrast=contrast, fwhm=None if fwhm is None else float(fwhm), iterations=iterations
    )


def narrow_width(image: SkyImage) -> float:
    """FWHM of the stars along their narrow axis: across a trailed star the light is as sharp as that.

    Noise alone makes the narrow axis of round stars a little short; within what the engine allows for anyway, the
    mean width is the better number.
    """
    found = image.star_size()
    width = found.fwhm if found.minor > 0.9 * found.fwhm else found.minor
    return float(max(width, _SHARPEST)) if found.fwhm >= _SHARPEST else float(width)


def clean(image: SkyImage, engine: str, chosen: CosmicOptions) -> Cleaned:
    """Run an engine on an image with variance; the star size is measured where the engine wants one."""
    size = chosen.fwhm
    if size is None and engine != "astroscrappy":
        size = narrow_width(image)
    saturated = (image.flags & fl.SATURATED) != 0
    unusable = (image.flags & (fl.BAD | fl.FLAT_INVALID | fl.NO_DATA)) != 0
    found = ENGINES[engine]()(image.data, image.variance, unusable, saturated, options=attrs.evolve(chosen, fwhm=size))
    return Cleaned(found.cleaned, found.variance, found.mask, size, int(found.mask.sum()))
