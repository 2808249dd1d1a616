"""Where targets are on the sky, for times at the barycentre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.model.measure.positions import sky_positions

if TYPE_CHECKING:
    from larun.model.sky import SkyImage

__all__ = ["coordinates_of"]


def coordinates_of(
    given: Any, positions: Any, image: SkyImage, pixels: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> list[tuple[float, float]] | None:
    """ICRS degrees of each target; None where nothing tells them."""
    count = len(pixels[0])
    if given is None and hasattr(positions, "icrs"):
        given = positions
    if given is None:
        if image.wcs is None:
            return None
        try:
            ra, dec = sky_positions(image, *pixels, "icrs")
        except ValueError:
            return None
        return [(float(a), float(d)) for a, d in zip(ra, dec, strict=True)]
    if hasattr(given, "icrs"):
        given = np.column_stack([np.atleast_1d(given.icrs.ra.deg), np.atleast_1d(given.icrs.dec.deg)])
    try:
        made = np.atleast_2d(np.asarray(given, float))
    except (TypeError, ValueError) as error:
        raise OptionError(f"coordinates={given!r}: give a SkyCoord, or (ra, dec) in degrees") from error
    if made.shape != (count, 2) or not (np.abs(made[:, 1]) <= 90).all():
        raise OptionError(f"coordinates of shape {made.shape}: give (ra, dec) in degrees for each of {count} target(s)")
    return [(float(ra), float(dec)) for ra, dec in made]
