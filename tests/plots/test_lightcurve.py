"""Pictures of light curves: points, flags, fit and frames are those of the light curve."""

import numpy as np
import pytest

from larun import plots
from tests.model.curves.nights import curve_of as made
from tests.model.curves.test_transit import PLANET, night


def test_points_model_and_frames_are_drawn(figure):
    curve, _, _ = night(1)
    flags, flux = np.zeros(140), np.asarray(curve.curve()["flux"]).copy()
    flags[10], flux[10] = 8, 0.5
    about = {"star": 1, "used": False, "point_to_point": 0.002, "predicted": None}
    struck = made(flux, 0.002, curve.time(), flags=flags, fwhm=np.linspace(2, 3, 140))
    struck._table.meta["stars"][0] = about
    fit = struck.fit_transit(PLANET)
    plots.show_light_curve(struck, figure, fit=fit)
    figure.draw_without_rendering()
    assert len(figure.axes) == 3  # light, what is left, FWHM
    upper, lower, below = figure.axes
    model = next(line for line in upper.lines if line.get_label() == "transit and trend")
    assert model.get_ydata() == pytest.approx(fit.model)
    cross = next(line for line in upper.lines if line.get_label() == "flagged")
    assert len(cross.get_xdata()) == 1
    assert cross.get_ydata()[0] > 0.9  # at the edge, not at 0.5
    assert "BJD_TDB" in below.get_xlabel()
    assert f"{100 * fit.depth:.2f} ±" in lower.get_title()
    assert "139 of 140 points" in upper.get_title()


def test_scatter_against_magnitude(figure):
    curve, _, _ = night(1)
    rows = [
        {"star": n, "used": n > 1, "magnitude": -10.0 - n, "point_to_point": 0.001 * n, "predicted": 0.001 * n}
        for n in (1, 2, 3)
    ]
    curve._table.meta["stars"] = rows
    ax = plots.show_scatter(curve, figure)
    named = {line.get_label(): line for line in ax.lines}
    assert named["target"].get_xdata().tolist() == [-11]
    assert named["comparison stars"].get_ydata().tolist() == pytest.approx([2, 3])
    assert "rejected" not in named
