import numpy as np
import pytest
from astropy.table import QTable

import larun
from larun import plots
from larun.errors import CatalogError
from tests.algorithms.sky_fields import sky_field
from tests.algorithms.star_fields import draw


def solved(bands=("g", "r")):
    field = sky_field(21, size=300, stars=60, missing=0.1, spurious=0.1, radius=0.3, noise=0.0)
    moved = field.dec.copy()
    inside = np.flatnonzero(np.isfinite(field.pixels(field.ra, field.dec)).all(axis=1))
    moved[inside[::25]] += 1.2 / 3600  # stars that are not where the reference says
    flux = 40_000 * np.exp(-3 * np.arange(len(field.xy)) / len(field.xy))
    light = draw(field.shape, *field.xy.T, flux, 3.0, reach=12) + 100
    data = np.random.default_rng(3).poisson(light).astype(float)
    frame = larun.Frame.from_arrays(data, variance=light, unit="electron", saturation=1e6)
    rows = np.arange(len(field.ra)) / len(field.ra)
    columns = {f"mag_{band}": 12 + 6 * rows + 0.5 * k * np.sin(7 * rows) for k, band in enumerate(bands)}
    reference = QTable({"ra": field.ra, "dec": moved, **columns})
    return frame, frame.solve(reference, pointing=field.patch, scale=1.0)


def test_residuals_over_the_image_and_against_what_they_may_depend_on():
    frame, image = solved()
    found = image.solution
    figure = plots.show_solution(found)
    labels = [ax.get_xlabel() for ax in figure.axes] if figure.axes else []
    labels = labels or [ax.get_xlabel() for part in figure.subfigs for ax in part.axes]
    assert labels[0] == "x (pixel)"
    assert set(labels) == {"x (pixel)", "y (pixel)", "g (mag)", "g-r (mag)"}
    axes = [ax for part in figure.subfigs for ax in part.axes]
    (arrows,) = [item for item in axes[0].collections if hasattr(item, "U")]
    assert len(arrows.U) == found.matches
    left_out = next(line for line in axes[1].lines if line.get_label() == "left out")
    assert len(left_out.get_xdata()) == len(found.stars) - found.matches
    with pytest.raises(CatalogError, match="was not solved"):
        plots.show_solution(frame.solution)


def test_a_reference_without_magnitudes_is_drawn_too():
    _, image = solved(bands=())
    figure = plots.show_solution(image.solution)
    assert {ax.get_xlabel() for part in figure.subfigs for ax in part.axes} == {"x (pixel)", "y (pixel)"}
