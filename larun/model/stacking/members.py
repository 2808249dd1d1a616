"""What a frame is worth in a stack: its stars, its sky and its noise, measured once; pixels are read again by rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.background import background
from larun.algorithms.jit import over_rows
from larun.algorithms.quickstars import quick_sources
from larun.algorithms.stacking import Rows
from larun.errors import OptionError
from larun.io.rows import product_rows
from larun.model.aligning.transforms import bright_stars
from larun.model.planes import total_variance
from larun.provenance import Provenance, unrecorded

if TYPE_CHECKING:
    from larun.model.image import Image
    from larun.model.sky import SkyImage
    from larun.model.time.timing import ExposureTime

__all__ = ["Member", "all_measured", "measured"]

_RADIUS = 1.5  # FWHM, the pixel's included: an aperture that holds the same part of a star in any seeing
_KEPT = 0.25  # of the memory: the rest is for bands of all frames
_PIXEL = 2.3548 / math.sqrt(12)  # FWHM of a Gaussian as wide as a pixel


@attrs.frozen(kw_only=True, eq=False)
class Member:
    """A frame without its pixels.

    Parameters
    ----------
    name : str
        For people.
    provenance : Provenance
        Its record.
    image : callable
        Gives the frame; reads it again where it came from a file.
    rows : callable
        ``rows(start, stop)``: its planes.
    shape : tuple of int
    masters : tuple of str
        Whose noise it shares with other frames.
    stars : ndarray of float64, (n, 2)
        The brightest first.
    flux, flux_error : ndarray of float64, (n,)
        Of these, in an aperture that grows with the seeing; NaN where saturated or cut.
    fwhm, sky, noise : float
        Of the stars in pixels; level of the sky and its scatter.
    mesh : ndarray of float64
        The sky in cells.
    exposure : float or None
        Seconds.
    time : ExposureTime or None
        When it was exposed.
    """

    name: str
    provenance: Provenance
    image: Callable[[], SkyImage]
    rows: Callable[[int, int], Rows]
    shape: tuple[int, int]
    masters: tuple[str, ...]
    stars: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    fwhm: float
    sky: float
    noise: float
    mesh: NDArray[np.float64]
    exposure: float | None
    time: ExposureTime | None = None

    def sky_at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Level of the sky at positions, linear between the middles of cells; NaN outside the frame."""
        return _sky_at(self.mesh, self.shape, x, y)


def _sky_at(
    mesh: NDArray[np.float64], shape: tuple[int, int], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    rows, columns = mesh.shape
    at_y, at_x = ((v + 0.5) * n / size - 0.5 for v, n, size in ((y, rows, shape[0]), (x, columns, shape[1])))
    j, i = (np.clip(np.floor(v), 0, max(n - 2, 0)).astype(np.intp) for v, n in ((at_y, rows), (at_x, columns)))
    v, u = np.clip(at_y - j, 0, 1), np.clip(at_x - i, 0, 1)
    down, right = np.minimum(j + 1, rows - 1), np.minimum(i + 1, columns - 1)
    low = mesh[j, i] * (1 - u) + mesh[j, right] * u
    high = mesh[down, i] * (1 - u) + mesh[down, right] * u
    inside = (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)
    return np.asarray(np.where(inside, low * (1 - v) + high * v, np.nan))


def all_measured(given: Sequence[SkyImage | str | Path], max_memory: float) -> list[Member]:
    """Measure frames, several at a time; those of files stay in memory where all of them fit into half of it.

    Raises
    ------
    OptionError
        As :func:`measured`.
    """
    size = sum(Path(item).stat().st_size for item in given if isinstance(item, str | Path) and Path(item).is_file())
    keep = size <= _KEPT * max_memory
    found: dict[int, Member] = {}

    def work(start: int, stop: int) -> None:
        for number in range(start, stop):
            found[number] = measured(given[number], keep=keep)

    over_rows(len(given), work, band=1)
    return [found[number] for number in range(len(given))]


def measured(given: SkyImage | str | Path, *, keep: bool = False, resampled: bool = False) -> Member:
    """Measure a frame: an image, or a product that is read now and, unless it is kept, again by rows.

    A stack is taken only where ``resampled`` says so.

    Raises
    ------
    OptionError
        If it is no calibrated image, or was resampled before.
    """
    from larun.model.sky import SkyImage

    path = None if isinstance(given, SkyImage) else Path(given)
    image: SkyImage = SkyImage.read(path) if path is not None else given  # type: ignore[assignment]
    name = path.name if path is not None else (image.provenance.name or "an image")
    if image.variance is None or image.detector.needs_trim:
        raise OptionError(f"{name}: {image!r} is raw: calibrate it before it is stacked")
    if image._resampling is not None and not resampled:
        raise OptionError(f"{name}: {image!r} was resampled before: stack the frames it was made of, or as they were")
    if keep:
        path = None
    sky = background(image.data, None, image.flags)
    mesh = sky.mesh_level.astype(np.float64)
    quick = quick_sources(image.data, image.flags, sky)
    if quick is not None:
        stars = quick.xy
    else:  # few, faint or blurred ones
        with unrecorded():
            stars = bright_stars(image)
    size = quick.size if quick is not None and quick.size.stars else image.star_size()
    fwhm = float(size.fwhm)
    light, error = _fluxes(image, mesh, stars, _RADIUS * math.hypot(fwhm, _PIXEL))
    exposure = getattr(image, "exposure", None)
    return Member(
        name=name,
        provenance=image.provenance,
        image=(lambda: image) if path is None else (lambda: SkyImage.read(path, verify=False)),
        rows=_rows(image, path),
        shape=image.shape,
        masters=tuple(item.master for item in image.shared),
        stars=stars,
        flux=light,
        flux_error=error,
        fwhm=fwhm,
        sky=float(np.median(sky.mesh_level)),
        noise=float(np.median(sky.mesh_rms)),
        mesh=mesh,
        exposure=float(exposure) if exposure is not None and exposure > 0 else None,
        time=getattr(image, "time", None),
    )


def _fluxes(
    image: Image, mesh: NDArray[np.float64], stars: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = stars[:, 0], stars[:, 1]
    sums = aperture_sums(image.data, total_variance(image), image.flags, x, y, [radius])
    assert sums.variance is not None
    light = sums.sum[:, 0] - sums.area[:, 0] * _sky_at(mesh, image.shape, x, y)
    bad = ((sums.flags[:, 0] & (fl.UNUSABLE | fl.EDGE)) != 0) | (sums.fraction[:, 0] < 1) | ~(light > 0)
    return np.where(bad, np.nan, light), np.where(bad, np.nan, np.sqrt(sums.variance[:, 0]))


def _rows(image: SkyImage, path: Path | None) -> Callable[[int, int], Rows]:
    """How rows of a frame are had: from memory, or from its file."""
    stored = None if path is None else product_rows(path)
    if stored is None:

        def of_image(start: int, stop: int) -> Rows:
            assert image.variance is not None
            part = slice(start, stop)
            shared = {item.master: item.variance[part] for item in image.shared}
            return Rows(image.data[part], image.variance[part], image.flags[part], shared)

        return of_image

    def of_file(start: int, stop: int) -> Rows:
        data, variance, flags, shared = stored.read(start, stop)
        assert variance is not None
        return Rows(data, variance, flags, shared)

    return of_file


def facts(member: Member) -> dict[str, Any]:
    """What is known of a frame before it is aligned, by the names that conditions use."""
    mass = None if member.time is None else member.time.airmass
    return {
        "name": member.name,
        "fwhm": member.fwhm,
        "sky": member.sky,
        "noise": member.noise,
        "stars": len(member.stars),
        "exposure": math.nan if member.exposure is None else member.exposure,
        "airmass": math.nan if mass is None else mass,
    }
