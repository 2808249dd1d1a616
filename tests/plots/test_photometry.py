import numpy as np

import larun
from larun import plots
from tests.model.photometry.conftest import catalog_of, make_field


def test_residuals_against_magnitude_color_and_position():
    table, known = make_field(n=80)
    known["variable"][:4] = True
    found = catalog_of(table).zero_point(known, band="g", color="g-r")
    figure = plots.show_zero_point(found)
    assert [ax.get_xlabel() for ax in figure.axes] == ["g (mag)", "g-r (mag)", "x (pixel)", "y (pixel)"]
    refused = next(line for line in figure.axes[0].lines if line.get_label() == "not used")
    assert len(refused.get_xdata()) == np.count_nonzero(~found.stars["used"]) >= 4
    plain = plots.show_zero_point(catalog_of(table).zero_point(known, band="g"))
    assert len(plain.axes) == 3


def test_zero_points_of_a_night():
    made = []
    for number in range(5):
        table, known = make_field(seed=number, n=60, zero=25.0 - 0.02 * number)
        table.meta |= {"airmass": 1.0 + 0.1 * number, "jd_utc": 2460000.6 + 0.02 * number}
        made.append(catalog_of(table))
    figure = plots.show_zero_points(larun.zero_points(made, known, band="g"))
    assert [ax.get_xlabel() for ax in figure.axes] == ["JD (UTC) - 2460000", "airmass"]
    assert any("mag/airmass" in line.get_label() for line in figure.axes[1].lines)
