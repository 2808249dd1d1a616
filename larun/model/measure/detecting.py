"""The engines of ``SkyImage.detect``, and how a search for sources is set up for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from larun.algorithms.background import Background
from larun.algorithms.detect import Detections, DetectOptions, detect_matched, detect_peaks
from larun.algorithms.peaks import gaussian_profile, noise_factor
from larun.errors import OptionError

if TYPE_CHECKING:
    from larun.model.sky import SkyImage

__all__ = ["ENGINES", "FLUX", "METHODS", "detect", "filtered_noise", "recorded"]


class Engine(NamedTuple):
    """Where an adapter lives, and the class of its options."""

    module: str
    options: str


#: Engines of other packages; larun's own two have no options besides those of ``detect``.
ENGINES: dict[str, Engine] = {
    "dao": Engine("larun.algorithms.engine_dao", "DaoOptions"),
    "sep": Engine("larun.algorithms.engine_sep", "SepOptions"),
    "segmentation": Engine("larun.algorithms.engine_segmentation", "SegmentationOptions"),
}
METHODS: tuple[str, ...] = ("matched", "peaks", *ENGINES)

#: What the column ``flux`` is, by method.
FLUX: dict[str, str] = {
    "matched": "flux of the matched filter, total for a star of the filter's shape",
    "peaks": "flux of the matched filter, total for a star of the filter's shape",
    "dao": "sum of the pixels in the square of DAOFIND's kernel",
    "sep": "isophotal sum: the pixels above the threshold",
    "segmentation": "sum of the pixels of the segment",
}


def filtered_noise(image: SkyImage, fwhm: float) -> float:
    """By what the noise behind the filter of ``detect`` is larger than that of independent pixels: 1 on most images."""
    star = gaussian_profile(fwhm)
    return noise_factor(star, star, None if image.noise_acf is None else image.noise_acf.astype(np.float64))


def recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``detect`` as they are recorded: an engine's options complete; none where there are none.

    Raises
    ------
    OptionError
        If the method is unknown, or its options make no sense.
    """
    method, given = arguments["method"], arguments.pop("options")
    options = _options(method, given)
    return arguments if options is None else arguments | {"options": options}


def _options(method: Any, given: Any) -> Any:
    if callable(method):
        if given is not None and not isinstance(given, Mapping):
            raise OptionError(f"options={given!r}: a function gets its options as keywords: give a mapping")
        return None if not given else dict(given)
    if method not in METHODS:
        raise OptionError(f"method={method!r}: must be one of {', '.join(map(repr, METHODS))}, or a function")
    if method not in ENGINES:
        if given:
            raise OptionError(f"options={given!r}: method={method!r} has none; those have them: {', '.join(ENGINES)}")
        return None
    from larun.algorithms.engines import options_of

    module, name = ENGINES[method]
    return options_of(getattr(importlib.import_module(module), name), method, given)


def detect(
    image: SkyImage, sky: Background, method: str | Callable[..., Any], given: Any, options: DetectOptions, mesh: int
) -> Detections:
    """Find and measure the sources of an image, whatever finds them.

    Raises
    ------
    OptionError
        If an option makes no sense, or a function returns no sources.
    """
    chosen = _options(method, given)
    planes = (image.data, sky.level, sky.variance, image.flags)
    acf = None if image.noise_acf is None else image.noise_acf.astype(np.float64)
    if method == "matched":
        return detect_matched(*planes, options=options, acf=acf)
    if method == "peaks":
        return detect_peaks(*planes, options=options)
    from larun.algorithms import engines

    search = engines.search_of(*planes, options=options, mesh=mesh, acf=acf)
    if callable(method):
        return engines.complete(search, engines.found_by(method, search, chosen or {}))
    return engines.complete(search, importlib.import_module(ENGINES[method].module).find(search, chosen))
