"""A short simulated series with known truth: stars that drift over the chip, thin cloud, transits, a variable star."""

import math

import attrs
import numpy as np
from scipy.special import erf

import larun
from larun.model.curves.calibrating import COLUMNS
from larun.model.measure.schema import table
from larun.provenance import Provenance, Root

SHAPE = (220, 240)
SKY, READ = 300.0, 5.0
DEPTH = 0.01
START = 2460100.6  # JD


@attrs.frozen
class Night:
    """Frames in order, and the truth about them."""

    frames: list
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    relative: np.ndarray  # (frames, targets)
    offsets: np.ndarray

    @property
    def targets(self):
        return np.column_stack([self.x, self.y])[: self.relative.shape[1]]


def grid(rng, spacing=30, margin=26):
    """Stars that are alone."""
    y, x = np.mgrid[margin : SHAPE[0] - margin : spacing, margin : SHAPE[1] - margin : spacing]
    return x.ravel() + rng.uniform(-5, 5, x.size), y.ravel() + rng.uniform(-5, 5, x.size)


def box(phase, depth):
    """A transit with straight sides: no star is dark in the middle third of the night and bright outside it."""
    return 1 - depth * np.clip((0.19 - np.abs(phase - 0.5)) / 0.04, 0, 1)


def picture(x, y, flux, fwhm):
    """Gaussian stars, integrated over pixels."""
    sigma = fwhm / 2.3548
    image = np.zeros(SHAPE)
    for px, py, light in zip(x, y, flux, strict=True):
        lines = []
        for centre, size in ((py, SHAPE[0]), (px, SHAPE[1])):
            edges = (np.arange(size + 1) - 0.5 - centre) / (sigma * math.sqrt(2))
            lines.append(0.5 * np.diff(erf(edges)))
        image += light * np.outer(*lines)
    return image


def frame(image, rng, when, **more):
    """An exposure in electrons, with its variance and its time."""
    data = rng.poisson(image + SKY) + rng.normal(0, READ, SHAPE)
    header = {"MJD-OBS": when - 2400000.5 - 30 / 86400, "EXPTIME": 60.0, "FILTER": "R", **more}
    return larun.Frame.from_arrays(
        data.astype(np.float32), variance=(image + SKY + READ**2).astype(np.float32), unit="electron", header=header
    )


def night(seed, *, frames=36, targets=6, variable=True, slope=0.004, header=None):
    """A night whose first stars have a transit of one per cent, in brightness steps; the last one is variable."""
    rng = np.random.default_rng(seed)
    x, y = grid(rng)
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    flux = rng.uniform(6e4, 4e5, len(x))
    flux[:targets] = np.geomspace(6e4, 3e5, targets)
    phase = np.linspace(0, 1, frames)
    relative = np.tile(box(phase, DEPTH)[:, None], (1, targets))
    clouds = 10 ** (-0.4 * (0.1 * phase + rng.normal(0, 0.03, frames)))
    drift = np.column_stack([9.0 * phase, -6.0 * phase]) + rng.normal(0, 0.4, (frames, 2))
    made = []
    for k in range(frames):
        light = flux.copy()
        light[:targets] *= relative[k]
        if variable:
            light[-1] *= 1 + 0.02 * np.sin(12 * phase[k])
        # extinction and flats that change over the image
        light *= clouds[k] * 10 ** (-0.4 * slope * (phase[k] - 0.5) * (x - SHAPE[1] / 2) / (SHAPE[1] / 2))
        image = picture(x + drift[k, 0], y + drift[k, 1], light, 2.8 + 0.5 * phase[k])
        made.append(frame(image, rng, START + 0.12 * phase[k], **(header or {})))
    return Night(made, x + drift[0, 0], y + drift[0, 1], flux, relative, drift)


def curve_of(flux, error, time, **columns):
    """A light curve of one star from arrays."""
    count = len(time)
    values = {column.name: np.full(count, np.nan) for column in COLUMNS if column.dtype is np.float64}
    values |= {"star": np.ones(count), "role": np.full(count, "target"), "frame": np.full(count, "a.fits")}
    values |= {"flags": np.zeros(count), "jd_utc": time, "bjd_tdb": time, "exposure": np.full(count, 60.0)}
    values |= {"flux": flux, "flux_error": np.broadcast_to(error, count), **columns}
    rows = table(COLUMNS, values, "electron")
    rows.meta = {"targets": 1, "stars": [{"star": 1, "used": False}], "time": "BJD_TDB"}
    root = Root(kind="memory", pixels="0", given={}, header="", instrument="")
    return larun.LightCurve(table=rows, provenance=Provenance(root=root))
