"""The curve of growth with its scatter, apertures and correction."""

import numpy as np
import pytest

import larun
from larun import errors, plots
from larun.algorithms.growth import CurveOfGrowth
from larun.plots.growth import growth_of


@pytest.fixture
def curve():
    return CurveOfGrowth(np.array([4.0, 2.0, 1.0]), np.array([1.0, 0.8, 0.4]), np.array([0.0, 0.02, 0.05]), 12)


def test_points_and_scatter_are_those_of_the_curve_in_order(curve, figure):
    ax = plots.show_growth(curve, figure)
    line = ax.lines[0]
    assert line.get_xdata().tolist() == [1, 2, 4]
    assert line.get_ydata().tolist() == [0.4, 0.8, 1]
    assert line.get_label() == "median of 12 stars"
    edges = ax.collections[0].get_paths()[0].vertices
    for x, low, high in ((1, 0.35, 0.45), (2, 0.78, 0.82)):
        at = edges[edges[:, 0] == x][:, 1]
        assert (at.min(), at.max()) == (pytest.approx(low), pytest.approx(high))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("radius (pixel)", "share of the light")


def test_a_catalogue_adds_its_apertures_and_its_correction(sources, figure):
    ax = plots.show_growth(sources, figure)
    figure.draw_without_rendering()
    meta = sources.meta
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert drawn == pytest.approx(meta["aperture_radii"])
    assert f"{meta['aperture_correction'][0]:+.3f} ± {meta['aperture_correction_error'][0]:.3f} mag" in ax.get_title()
    (above,) = ax.child_axes
    assert above.get_xlabel() == "radius (FWHM)"
    assert above.get_xlim()[1] * meta["fwhm"] == pytest.approx(ax.get_xlim()[1])


def test_the_curve_of_round_stars_is_that_of_a_gaussian(sources):
    found = growth_of(sources)
    assert found.radii[-1] == pytest.approx(sources.meta["aperture_correction_radius"])
    expected = 1 - np.exp(-(found.radii**2) / (2 * (1.7**2 + 1 / 12)))
    np.testing.assert_allclose(found.fraction, expected / expected[-1], atol=0.02)


def test_without_its_image_the_apertures_give_the_curve(sources, tmp_path, figure):
    sources.write(tmp_path / "cat.ecsv")
    alone = larun.SourceCatalog.read(tmp_path / "cat.ecsv")
    found = growth_of(alone)
    np.testing.assert_allclose(found.radii, sources.meta["aperture_radii"])
    correction = 2.5 * np.log10(found.fraction[0])
    assert correction == pytest.approx(sources.meta["aperture_correction"][0], abs=0.02)
    assert len(plots.show_growth(alone, figure).lines[0].get_xdata()) == 3


def test_what_has_no_curve_says_so(field, sources, figure, tmp_path):
    field.detect().write(tmp_path / "cat.ecsv")
    with pytest.raises(errors.CatalogError, match="attach"):
        plots.show_growth(larun.SourceCatalog.read(tmp_path / "cat.ecsv"), figure)
    with pytest.raises(errors.OptionError, match="Frame is no curve of growth"):
        plots.show_growth(field, figure)
