"""What ``Frame.clean`` computes: one of the engines, with the star size it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.cosmic import CosmicOptions, CosmicRays, lacosmic
from larun.algorithms.cosmic_common import replace_pixels
from larun.errors import OptionError
from larun.model.planes import total_variance

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
    """Planes with cosmic rays replaced, where they were, and the star size and the sky that were assumed."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.bool_]
    fwhm: float | None
    pixels: int
    sky: float | None


def options(
    engine: str | Callable[..., Any],
    *,
    sigma: float,
    contrast: float | None,
    fwhm: float | None,
    iterations: int,
) -> CosmicOptions:
    """Validated options of an engine, before any pixel is looked at; a FWHM that is not given is measured later.

    Raises
    ------
    OptionError
        If the engine is unknown, or an option makes no sense for it.
    """
    if not callable(engine) and engine not in ENGINES:
        raise OptionError(f"engine={engine!r}: must be one of {', '.join(map(repr, ENGINES))}, or a function")
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


def _own(function: Callable[..., Any]) -> Engine:
    """A function of the user's own as an engine: what it returns is checked, and its mask replaced as larun does."""
    name = getattr(function, "__qualname__", type(function).__qualname__)

    def engine(
        data: NDArray[np.float32],
        variance: NDArray[np.float32],
        unusable: NDArray[np.bool_],
        saturated: NDArray[np.bool_],
        *,
        options: CosmicOptions,
    ) -> CosmicRays:
        made = function(data, variance, unusable, saturated, options=options)
        mask = np.asarray(made.mask if isinstance(made, CosmicRays) else made)
        if mask.dtype != bool or mask.shape != data.shape:
            raise OptionError(
                f"{name} returned {mask.dtype} {mask.shape}: must be a mask of {data.shape} booleans, true where a "
                "cosmic ray is, or a larun.algorithms.cosmic.CosmicRays"
            )
        if not isinstance(made, CosmicRays):
            mask = mask & ~unusable
            return CosmicRays(mask, *replace_pixels(data, variance, mask, unusable | saturated), 1)
        planes = np.asarray(made.cleaned, np.float32), np.asarray(made.variance, np.float32)
        if any(plane.shape != data.shape for plane in planes):
            raise OptionError(f"{name} returned planes of {[p.shape for p in planes]}: must be {data.shape}")
        return CosmicRays(mask, *planes, int(made.iterations))

    return engine


def clean(
    image: SkyImage, engine: str | Callable[..., Any], chosen: CosmicOptions, *, sky: float | None = None
) -> Cleaned:
    """Run an engine on an image with variance; the star size is measured where the engine wants one.

    The sky of the whole image is for its windows, and for larun's own engine.
    """
    run = _own(engine) if callable(engine) else ENGINES[engine]()
    if sky is not None:
        run = partial(run, sky=sky)
    size = chosen.fwhm
    if size is None and engine != "astroscrappy":
        size = narrow_width(image)
    saturated = (image.flags & fl.SATURATED) != 0
    unusable = (image.flags & (fl.BAD | fl.FLAT_INVALID | fl.NO_DATA)) != 0
    found = run(image.data, total_variance(image), unusable, saturated, options=attrs.evolve(chosen, fwhm=size))
    variance = found.variance
    if image.shared and image.variance is not None:  # a pixel that is replaced has the noise of those around it
        variance = image.variance.copy()
        variance[found.mask] = found.variance[found.mask]
    return Cleaned(found.cleaned, variance, found.mask, size, int(found.mask.sum()), found.sky)
