"""The sky on a picture: which way is north, how large is an arc minute, where run right ascension and declination."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.wcs import WCS
    from matplotlib.axes import Axes

__all__ = ["Local", "draw_compass", "draw_scale_bar", "label_world", "local_sky", "round_angle"]

_LINE = "#FFFFFF"
_STEPS = (1, 2, 5, 10, 20, 30)


class Local(NamedTuple):
    """The sky around one pixel.

    Attributes
    ----------
    north, east : (float, float)
        Unit vectors (x, y) in pixels towards growing declination and right ascension.
    scale : float
        Arc seconds per pixel, the geometric mean of both directions.
    """

    north: tuple[float, float]
    east: tuple[float, float]
    scale: float


def local_sky(wcs: WCS, x: float, y: float) -> Local:
    """North, east and scale at a pixel, from the places of its neighbours on the sphere: right at the poles too."""
    points = np.array([[x, y], [x + 0.5, y], [x - 0.5, y], [x, y + 0.5], [x, y - 0.5]])
    longitude, latitude = np.radians(_lonlat(wcs, points))
    place = np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    a, d = longitude[0], latitude[0]
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    steps = np.column_stack([place[:, 1] - place[:, 2], place[:, 3] - place[:, 4]])  # of one pixel in x and in y
    matrix = np.array([east, north]) @ steps
    towards = np.linalg.inv(matrix)  # columns: pixels per radian to the east and to the north
    return Local(
        north=_unit(towards[:, 1]),
        east=_unit(towards[:, 0]),
        scale=math.degrees(math.sqrt(abs(float(np.linalg.det(matrix))))) * 3600,
    )


def _lonlat(wcs: WCS, points: NDArray[np.float64]) -> NDArray[np.float64]:
    world = np.asarray(wcs.all_pix2world(points, 0))
    return np.array([world[:, wcs.wcs.lng], world[:, wcs.wcs.lat]])


def _unit(vector: NDArray[np.float64]) -> tuple[float, float]:
    length = float(np.hypot(*vector))
    return float(vector[0]) / length, float(vector[1]) / length


def round_angle(most: float) -> tuple[float, str]:
    """The largest round angle of at most so many arc seconds, and how it is written.

    Examples
    --------
    >>> round_angle(47), round_angle(260), round_angle(4000), round_angle(0.03)
    ((30.0, '30″'), (120.0, '2′'), (3600.0, '1°'), (0.02, '0.02″'))
    """
    if most < 1:
        power = 10.0 ** math.floor(math.log10(most))
        step = max(step for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))
        return float(f"{step * power:.1g}"), f"{step * power:.1g}″"
    for size, sign in ((3600.0, "°"), (60.0, "′"), (1.0, "″")):
        if most >= size:
            step = max(step for step in _STEPS if step * size <= most)
            return step * size, f"{step}{sign}"
    return 1.0, "1″"


def draw_compass(ax: Axes, wcs: WCS, window: tuple[float, float, float, float]) -> None:
    """Arrows to the north and the east in the lower left corner of a window (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = window
    here = local_sky(wcs, (x0 + x1) / 2, (y0 + y1) / 2)
    length = 0.09 * min(x1 - x0, y1 - y0)
    # Far enough from the corner for arrows in any direction, and for their letters.
    corner = (x0 + 1.9 * length, y0 + 1.9 * length)
    equatorial = wcs.wcs.lngtyp.strip() == "RA"
    names = ("N", "E") if equatorial else ("+lat", "+lon")
    for name, (dx, dy) in zip(names, (here.north, here.east), strict=True):
        tip = (corner[0] + length * dx, corner[1] + length * dy)
        arrow: Any = ax.annotate(
            "", tip, corner, arrowprops={"arrowstyle": "-|>", "color": _LINE, "shrinkA": 0, "shrinkB": 0, "lw": 1.2}
        )
        arrow.arrow_patch.set_path_effects(_outline())
        ax.text(
            corner[0] + 1.45 * length * dx,
            corner[1] + 1.45 * length * dy,
            name,
            color=_LINE,
            ha="center",
            va="center",
            fontsize="small",
            path_effects=_outline(),
            clip_on=True,
        )


def draw_scale_bar(ax: Axes, wcs: WCS, window: tuple[float, float, float, float]) -> None:
    """A bar of a round angle in the lower right corner of a window (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = window
    scale = local_sky(wcs, (x0 + x1) / 2, (y0 + y1) / 2).scale
    angle, text = round_angle(0.25 * (x1 - x0) * scale)
    right, base = x1 - 0.05 * (x1 - x0), y0 + 0.05 * (y1 - y0)
    left = right - angle / scale
    ax.plot([left, right], [base, base], color=_LINE, lw=2, solid_capstyle="butt", path_effects=_outline(), gid="scale")
    ax.text(
        (left + right) / 2,
        base + 0.012 * (y1 - y0),
        text,
        color=_LINE,
        ha="center",
        va="bottom",
        fontsize="small",
        path_effects=_outline(),
        clip_on=True,
    )


def label_world(ax: Any, wcs: WCS) -> None:
    """Names of the world coordinates at the axes, and a thin graticule."""
    names = {"RA": "right ascension", "DEC": "declination", "GLON": "galactic longitude", "GLAT": "galactic latitude"}
    frame = wcs.wcs.radesys.strip() if wcs.wcs.lngtyp.strip() == "RA" else ""
    for index, kind in ((wcs.wcs.lng, wcs.wcs.lngtyp.strip()), (wcs.wcs.lat, wcs.wcs.lattyp.strip())):
        axis = ax.coords[index]
        axis.set_axislabel(names.get(kind, kind) + (f" ({frame})" if frame else ""))
        axis.set_ticks(number=5)
        axis.set_ticklabel(exclude_overlapping=True, size="small")
    ax.coords.grid(color=_LINE, alpha=0.25, linestyle="-", linewidth=0.5)


def _outline() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="#00000099")]
