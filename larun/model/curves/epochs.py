"""The frames of a series: when each was taken, where its stars are, and the transform from the reference to it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.mapping import affine
from larun.algorithms.quickstars import quick_stars
from larun.errors import LarunWarning, NotAligned, OptionError
from larun.model.aligning.transforms import TRANSFORMS, Alignment, align_by, bright_stars, by_star_lists
from larun.provenance import Provenance, unrecorded

if TYPE_CHECKING:
    from larun.model.sky import SkyImage
    from larun.model.time.timing import ExposureTime

__all__ = ["Epoch", "aligned", "epochs_of", "listed_frames", "reference_of"]


@attrs.frozen(kw_only=True, eq=False)
class Epoch:
    """A frame without its pixels.

    Parameters
    ----------
    name : str
        For people.
    provenance : Provenance
        Its record.
    image : callable
        Gives the frame; reads it again where it came from a file.
    shape : tuple of int
    time : ExposureTime
    stars : ndarray of float64, (n, 2)
        The brightest first.
    fwhm : float
        Of its stars, pixels.
    filter : str or None
    number : int, optional
        Which of the frames it is, as they were handed over.
    """

    name: str
    provenance: Provenance
    image: Callable[[], SkyImage]
    shape: tuple[int, int]
    time: ExposureTime
    stars: NDArray[np.float64]
    fwhm: float
    filter: str | None
    number: int | None = None

    @property
    def label(self) -> str:
        """Its name in a table: of the raw file, whatever the product is called."""
        return self.provenance.name or self.provenance.id[:12]

    @property
    def when(self) -> tuple[float, str]:
        """What series are sorted by."""
        return self.time.jd_utc, self.provenance.id


def listed_frames(frames: Any) -> list[SkyImage | str | Path]:
    """Frames in a list, a single one too."""
    from larun.model.sky import SkyImage

    return [frames] if isinstance(frames, SkyImage | str | Path) else list(frames)


def epochs_of(frames: Iterable[SkyImage | str | Path]) -> list[Epoch]:
    """Measure frames, in order of time; one that is there twice counts once.

    Raises
    ------
    OptionError
        If there are none, one is raw or has no time, or they are of several filters.
    """
    listed = listed_frames(frames)
    if not listed:
        raise OptionError("there are no frames to make a light curve of")
    found: dict[str, Epoch] = {}
    for number, frame in enumerate(listed):
        epoch = attrs.evolve(_measured(frame), number=number)
        if epoch.provenance.id in found:
            warnings.warn(
                f"{epoch.name} is the same frame as {found[epoch.provenance.id].name}", LarunWarning, stacklevel=4
            )
        found.setdefault(epoch.provenance.id, epoch)
    filters = sorted({epoch.filter for epoch in found.values() if epoch.filter})
    if len(filters) > 1:
        raise OptionError(f"frames in the filters {', '.join(filters)}: a light curve is of one; select them first")
    return sorted(found.values(), key=lambda epoch: epoch.when)


def _measured(given: SkyImage | str | Path) -> Epoch:
    from larun.model.frame import Frame
    from larun.model.sky import SkyImage

    path = None if isinstance(given, SkyImage) else Path(given)
    image: SkyImage = SkyImage.read(path) if path is not None else given  # type: ignore[assignment]
    name = path.name if path is not None else (image.provenance.name or "an image")
    if not isinstance(image, Frame) or image.variance is None or image.detector.needs_trim:
        raise OptionError(f"{name}: {image!r} is no calibrated exposure: calibrate frames before their light curve")
    time = image.time
    if time.mid is None:
        raise OptionError(
            f"{name}: {time.sources.get('mid', 'no card says when it was taken')}; give date=… and exposure=… when it "
            "is read"
        )
    if image._resampling is not None:
        warnings.warn(
            f"{name} was resampled: its noise is correlated and its pixels are blurred; a light curve is better "
            "measured on the frames as they were",
            LarunWarning,
            stacklevel=5,
        )
    stars = quick_stars(image.data, image.flags)
    if stars is None:  # few, faint or blurred ones
        with unrecorded():
            stars = bright_stars(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)  # a frame without stars is told of when it does not fit
        fwhm = float(image.star_size().fwhm)
    return Epoch(
        name=name,
        provenance=image.provenance,
        image=(lambda: image) if path is None else (lambda: SkyImage.read(path, verify=False)),
        shape=image.shape,
        time=time,
        stars=stars,
        fwhm=fwhm,
        filter=image.filter,
    )


def reference_of(epochs: Sequence[Epoch], given: SkyImage | str | Path | None) -> Epoch:
    """The frame whose pixels positions are in: the first in time unless one is named."""
    if given is None:
        return epochs[0]
    own = _measured(given)
    return next((epoch for epoch in epochs if epoch.provenance.id == own.provenance.id), own)


def aligned(epoch: Epoch, reference: Epoch, transform: str) -> Alignment:
    """The transform from the reference to a frame, by their stars.

    Raises
    ------
    NotAligned
        If there is none.
    """
    if epoch is reference:
        there = affine(np.eye(2), [0.0, 0.0], reference.shape)
        return Alignment(there, "stars", {"matrix": [[1.0, 0.0], [0.0, 1.0]], "offset": [0.0, 0.0]})
    names = reference.name, epoch.name
    with contextlib.suppress(NotAligned):  # a full search finds more, and fainter, stars
        return by_star_lists(reference.stars, epoch.stars, reference.shape, TRANSFORMS[transform], names)
    with unrecorded():
        return align_by("stars", epoch.image(), reference.image(), transform)
