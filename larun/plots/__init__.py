"""Pictures of images, masters and catalogues. Needs the extra ``plots``; matplotlib loads on first use.

A function that begins with ``show`` makes a picture in the axes or the figure it is given, or in a new one, and
returns it; one that begins with ``draw`` adds to a picture. None shows a window or changes matplotlib's settings.
"""

from larun.plots.astrometry import show_solution
from larun.plots.canvas import save
from larun.plots.catalog import show_catalog
from larun.plots.difference import show_candidate, show_difference_curve
from larun.plots.evidence import show_evidence
from larun.plots.growth import show_growth
from larun.plots.image import show
from larun.plots.lightcurve import show_light_curve, show_scatter
from larun.plots.masters import show_master
from larun.plots.overlay import draw_catalog, draw_flags
from larun.plots.photometry import show_zero_point, show_zero_points
from larun.plots.psf import show_psf
from larun.plots.quality import show_quality

__all__ = [
    "draw_catalog",
    "draw_flags",
    "save",
    "show",
    "show_candidate",
    "show_catalog",
    "show_difference_curve",
    "show_evidence",
    "show_growth",
    "show_light_curve",
    "show_master",
    "show_psf",
    "show_quality",
    "show_scatter",
    "show_solution",
    "show_zero_point",
    "show_zero_points",
]
