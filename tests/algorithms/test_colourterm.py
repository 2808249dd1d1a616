"""Extinction by colour against what it was made of."""

import numpy as np
import pytest

from larun.algorithms.colourterm import fit_colour_term
from larun.errors import CatalogError

TERM = -0.03


def series(seed, frames=50, stars=12, plane=0.0):
    rng = np.random.default_rng(seed)
    airmass = 1.0 + np.linspace(0, 1, frames) ** 2
    colour, bright = rng.uniform(0.2, 1.8, stars), rng.uniform(10, 12, stars)
    places = rng.uniform(-1, 1, (stars, 2))
    noise = np.broadcast_to(0.002 * 10 ** (0.3 * (bright - 10)), (frames, stars)).copy()
    made = 0.25 * airmass[:, None] + rng.normal(0, 0.03, frames)[:, None] + bright
    made = made + TERM * airmass[:, None] * colour + rng.normal(0, plane, (frames, 2)) @ places.T
    return made + rng.normal(0, noise), noise, colour, airmass, places


def test_the_coefficient_and_its_error_are_right():
    away = []
    for seed in range(60):
        magnitude, noise, colour, airmass, _ = series(seed)
        found = fit_colour_term(magnitude, noise, colour, airmass)
        away.append((found.value - TERM) / found.error)
    assert np.mean(away) == pytest.approx(0, abs=3 / np.sqrt(60))
    assert np.std(away) == pytest.approx(1, abs=0.28)


def test_a_plane_over_the_image_and_lacking_points_disturb_nothing():
    away = []
    for seed in range(40):
        magnitude, noise, colour, airmass, places = series(seed, plane=0.01)
        magnitude[3:9, 2] = np.nan
        design = np.column_stack([np.ones(len(colour)), places])
        found = fit_colour_term(magnitude, noise, colour, airmass, design)
        away.append((found.value - TERM) / found.error)
    assert np.mean(away) == pytest.approx(0, abs=3 / np.sqrt(40))
    assert np.std(away) == pytest.approx(1, abs=0.34)


def test_what_a_star_loses_grows_with_both():
    magnitude, noise, colour, airmass, _ = series(3)
    found = fit_colour_term(magnitude, noise, colour, airmass)
    value, error = found.at(found.colour + 1.0, airmass)
    assert value == pytest.approx(found.value * (airmass - found.airmass))
    assert error == pytest.approx(found.error * np.abs(airmass - found.airmass))


def test_what_cannot_be_told_is_refused():
    magnitude, noise, colour, airmass, _ = series(4)
    with pytest.raises(CatalogError, match="of one colour"):
        fit_colour_term(magnitude, noise, np.full_like(colour, 0.5), airmass)
    with pytest.raises(CatalogError, match="of one air mass"):
        fit_colour_term(magnitude, noise, colour, np.full_like(airmass, 1.2))
    with pytest.raises(CatalogError, match="2 comparison stars"):
        fit_colour_term(magnitude[:, :2], noise[:, :2], colour[:2], airmass)
