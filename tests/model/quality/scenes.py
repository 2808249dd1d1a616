"""Calibrated frames of one field with known seeing, light, sky and shape."""

import numpy as np

import larun
from larun import simulate

SHAPE = (420, 460)
READ_NOISE = 5.0


def frame(*, fwhm=3.0, light=1.0, sky=200.0, exposure=60.0, seed=1, field=1, shift=(0.0, 0.0), profile=None):
    """A frame of a field: ``field`` says which stars, ``seed`` which noise."""
    stars = np.random.default_rng(field)
    x, y = stars.uniform(-30, SHAPE[1] + 30, 160), stars.uniform(-30, SHAPE[0] + 30, 160)
    flux = 10 ** stars.uniform(3.3, 5.0, 160) * light
    if profile is None:
        image = simulate.render(SHAPE, x + shift[0], y + shift[1], flux, fwhm=fwhm, beta=3.0)
    else:
        image = simulate.render_profile(SHAPE, x + shift[0], y + shift[1], flux, profile=profile)
    rng = np.random.default_rng(seed)
    data = simulate.noisy(image + sky, read_noise=READ_NOISE, rng=rng).astype(np.float32)
    variance = np.maximum(data, 0) + np.float32(READ_NOISE**2)
    header = {"EXPTIME": exposure, "OBJECT": "field"}
    return larun.Frame.from_arrays(data, variance=variance, unit="electron", header=header)
