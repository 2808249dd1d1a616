"""Frames, catalogues and figures for the pictures; no window, no global state."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import larun
from larun import flags

mpl.use("Agg")

#: North is up and to the left by 20 degrees, 0.5 arc seconds a pixel.
ROTATION, SCALE = np.radians(20.0), 0.5


def wcs_cards(nx, ny, ra=150.0, dec=40.0):
    c, s = np.cos(ROTATION) * SCALE / 3600, np.sin(ROTATION) * SCALE / 3600
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec,
        "CRPIX1": nx / 2, "CRPIX2": ny / 2, "CD1_1": -c, "CD1_2": -s, "CD2_1": -s, "CD2_2": c,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _settings_and_windows_stay_as_they_are():
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture
def figure():
    return Figure(figsize=(6, 6), layout="constrained")


@pytest.fixture
def frame(rng):
    """60 rows, 80 columns: a star, a bad column, a cosmic ray; no WCS."""
    sky = rng.normal(100, 5, (60, 80))
    sky[20, 30] += 2000
    bits = np.zeros((60, 80), np.uint32)
    bits[:, 7] = flags.BAD
    bits[5, 5] = flags.COSMIC | flags.INTERPOLATED
    sky[:, 7] = 1e6
    return larun.Frame.from_arrays(sky, variance=np.full((60, 80), 25.0), flags=bits, unit="electron")


@pytest.fixture(scope="session")
def field():
    """Stars on a 6 x 5 grid, of different brightness, the first one elongated and one saturated; with a WCS."""
    rng = np.random.default_rng(7)
    ny, nx = 300, 360
    y, x = np.mgrid[:ny, :nx]
    sky = rng.normal(200, 14, (ny, nx))
    bits = np.zeros((ny, nx), np.uint32)
    for number in range(30):
        cx, cy = 30.3 + 60 * (number % 6), 30.7 + 60 * (number // 6)
        a, b = (3.0, 1.5) if number == 0 else (1.7, 1.7)
        sky += 60000 / (1 + 0.3 * number) * np.exp(-((x - cx) ** 2 / (2 * a**2) + (y - cy) ** 2 / (2 * b**2)))
    bits[91 - 1 : 91 + 2, 30 - 1 : 30 + 2] = flags.SATURATED
    return larun.Frame.from_arrays(
        sky, variance=np.maximum(sky, 1), flags=bits, unit="electron", header=wcs_cards(nx, ny), gain=1.0
    )


@pytest.fixture(scope="session")
def sources(field):
    return field.detect().photometer((1.0, 1.5, 2.5))
