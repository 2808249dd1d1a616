"""The picture of the stars of a frame."""

import numpy as np
import pytest

from larun import plots
from larun.errors import OptionError
from tests.model.quality.scenes import frame


def test_stars_are_drawn_by_place_signal_and_shape():
    quality = frame().quality()
    figure = plots.show_quality(quality)
    axes = [ax for part in figure.subfigs for ax in part.axes]
    field = axes[0]
    assert len(field.collections[0].get_offsets()) == quality.stars
    np.testing.assert_array_equal(field.collections[0].get_array(), quality.table["fwhm"])
    widths = next(ax for ax in axes if ax.get_xlabel() == "S/N")
    assert {line.get_label() for line in widths.lines} >= {"Moffat", "Gaussian", "moments"}
    assert f"{quality.fwhm:.2f} px" in figure.get_suptitle()


@pytest.mark.filterwarnings("ignore:.*too few stars")
def test_a_frame_without_stars_is_refused():
    with pytest.raises(OptionError, match="no stars"):
        plots.show_quality(frame(light=1e-6).quality())
