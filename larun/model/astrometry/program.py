"""The search by astrometry.net: its projection is where larun's fit begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from larun.algorithms.skymatch import rough
from larun.errors import NotSolved
from larun.io.solve_field import PROGRAM, Region, run_solve_field
from larun.model.astrometry.common import Sources, Stars, around, half_diagonal
from larun.model.astrometry.hints import Hints, year_of
from larun.model.planes import wcs_cards
from larun.model.reference.opening import reference_stars
from larun.model.reference.stars import ReferenceCatalog, stars_from

if TYPE_CHECKING:
    from larun.model.astrometry.options import SolveOptions
    from larun.model.sky import SkyImage

__all__ = ["solve_field"]

_REACH = 3.0  # pixels by which stars may be off


def solve_field(
    image: SkyImage, sources: Sources, reference: Any, known: Hints, radius: float | None, options: SolveOptions
) -> Stars:
    """Stars and a start from the program: first with all that is known, then without the scale of a header.

    Raises
    ------
    OptionError
        If the program is not installed.
    NotSolved
        If it finds nothing.
    """
    from astropy.wcs import WCS

    wide = radius
    if wide is None and known.pointing is not None:
        wide = 1.0 + half_diagonal(image, known.scales[0][1] if known.scales else 60.0)
    regions = [Region(known.pointing, wide, scale) for scale in known.scales]
    if not known.scale_given:
        regions.append(Region(known.pointing, wide))
    found, log = None, ""
    for region in regions:
        try:
            found = run_solve_field(sources.xy, sources.flux, image.shape, region, time_limit=options.time_limit)
            break
        except NotSolved as error:
            log = str(error)
    if found is None:
        raise NotSolved(f"{image!r}: no solution: {len(sources.xy)} sources ({known.said}); {log}")
    wcs = WCS(wcs_cards(found.wcs))
    slope = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    start = rough(lambda xy: tuple(wcs.all_pix2world(xy, 0).T), image.shape, 1, _REACH * slope)
    if reference is None:
        columns = {"ra": found.ra % 360.0, "dec": found.dec}
        stars = stars_from(columns, f"{PROGRAM}, its index", {}).ordered()
    else:
        catalog = ReferenceCatalog.open(reference)
        reach = 1.3 * half_diagonal(image, slope * 3600)
        stars = around(reference_stars(catalog, *start.centre, reach, year_of(image)), start, image)
    return Stars(stars, start, found.log_odds, len(regions))
