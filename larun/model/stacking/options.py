"""How frames are put on one another: what seldom needs another value."""

from __future__ import annotations

from typing import Any

import attrs

from larun.algorithms.resample import ResampleOptions
from larun.algorithms.stacking import MeanOptions
from larun.errors import OptionError
from larun.model.aligning.transforms import TRANSFORMS

__all__ = ["BY_PSF", "FOOTPRINTS", "METHODS", "SCALES", "WEIGHTS", "StackOptions", "checked"]

FOOTPRINTS = ("union", "reference")
SCALES = ("stars", "exposure", "none")
BACKGROUNDS = ("match", "none")
WEIGHTS = ("point", "sky", "equal")
METHODS = ("artefacts", "mean", "median", "proper", "homogenised")
#: Methods that filter frames by their point-spread functions.
BY_PSF = ("proper", "homogenised")


def _one_of(names: tuple[str, ...]) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise OptionError(f"{attribute.name}={value!r}: must be one of {', '.join(names)}")

    return check


@attrs.frozen(kw_only=True)
class StackOptions:
    """How frames are brought together.

    Parameters
    ----------
    transform : {"affine", "similarity", "quadratic", "cubic"}
        What is fitted to the stars. Bent ones are followed a little beyond the reference; for more of a union of
        footprints take a linear one.
    scale : {"stars", "exposure", "none"}
        By what frames are brought to the light of the reference.
    background : {"match", "none"}
        Whether the plane between the sky of a frame and that of the reference is taken off.
    footprint : {"union", "reference"}
        Pixels that any frame covers, or those of the reference.
    sigma : float
        Limit of the rejection.
    kernel : str
        Of the resampling, as in :meth:`larun.model.sky.SkyImage.align_to`.
    target_fwhm : float, optional
        Of ``method="homogenised"``: FWHM in pixels of the Moffat profile that all stars get; by default they become
        those of the worst frame.
    max_memory : float
        Bytes; it decides no pixel.
    """

    transform: str = attrs.field(default="affine", validator=_one_of(tuple(TRANSFORMS)))
    scale: str = attrs.field(default="stars", validator=_one_of(SCALES))
    background: str = attrs.field(default="match", validator=_one_of(BACKGROUNDS))
    footprint: str = attrs.field(default="union", validator=_one_of(FOOTPRINTS))
    sigma: float = 4.0
    kernel: str = "auto"
    target_fwhm: float | None = attrs.field(default=None, metadata={"recorded": "changed"})
    max_memory: float = attrs.field(default=1e9, metadata={"recorded": False})

    def __attrs_post_init__(self) -> None:
        self.mean("artefacts")
        if self.target_fwhm is not None and not 0.5 <= self.target_fwhm <= 50:
            raise OptionError(f"target_fwhm={self.target_fwhm!r}: must be between 0.5 and 50 pixels")

    def mean(self, method: str) -> MeanOptions:
        """What the arrays are combined by."""
        kernel = ResampleOptions(kernel=self.kernel)
        return MeanOptions(method=method, sigma=self.sigma, resample=kernel, max_memory=self.max_memory)


def checked(method: str, weights: str, options: StackOptions) -> str:
    """The weights by which layers are laid for a method; options that make no sense for it are refused.

    Raises
    ------
    OptionError
        If there is no such method, a target is given that has no use, or weights that the method does not have.
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r}: must be one of {', '.join(METHODS)}")
    if options.target_fwhm is not None and method != "homogenised":
        raise OptionError(f"target_fwhm={options.target_fwhm!r}: only method='homogenised' has a target")
    if method == "proper" and weights != "point":
        raise OptionError(
            f"weights={weights!r}: a proper coadd weighs frames by their noise and their stars: leave it out"
        )
    return "sky" if method in BY_PSF else weights
