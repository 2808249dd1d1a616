"""The picture of an image: what is drawn, where, and what happens without matplotlib."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import larun
from larun import errors, plots
from tests.plots.conftest import wcs_cards


def test_unusable_pixels_do_not_count_for_the_stretch(frame, figure):
    drawn = plots.show(frame, figure).images[0]
    assert drawn.norm.vmax < 3000
    assert plots.show(frame.data, figure).images[0].norm.vmax > 1e5


def test_values_and_orientation_are_those_of_the_image(frame, figure):
    ax = plots.show(frame, figure)
    drawn = ax.images[0]
    np.testing.assert_array_equal(np.asarray(drawn.get_array()), frame.data)
    assert drawn.origin == "lower"
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 79.5, -0.5, 59.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (pixel)", "y (pixel)")


@pytest.mark.parametrize("window", [None, ((20, 40), (11, 31))])
def test_a_star_is_seen_where_its_coordinates_are(window):
    data = np.zeros((60, 80))
    data[20, 30] = 1000
    figure = Figure(figsize=(6, 6), dpi=100)
    canvas = FigureCanvasAgg(figure)
    ax = plots.show(larun.Frame.from_arrays(data), figure, window=window, stretch="linear")
    canvas.draw()
    screen = np.asarray(canvas.buffer_rgba())[::-1, :, 0].astype(float)  # y upwards
    x0, y0, x1, y1 = (round(value) for value in ax.bbox.extents)
    inside = screen[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
    assert inside.max() == 255
    y, x = np.nonzero(inside > 200)
    seen = np.array([x.mean() + x0 + 2.5, y.mean() + y0 + 2.5])
    scale = ax.bbox.width / (ax.get_xlim()[1] - ax.get_xlim()[0])
    assert np.hypot(*(seen - ax.transData.transform((30, 20)))) / scale < 0.3


def test_a_large_image_is_reduced_and_stays_in_place(figure, monkeypatch):
    monkeypatch.setattr("larun.plots.image._LARGEST", 20)
    data = np.zeros((61, 83))
    data[20, 30] = 1000
    ax = plots.show(larun.Frame.from_arrays(data), figure, window=((3, 83), (0, 61)))
    drawn = ax.images[0]
    values = np.asarray(drawn.get_array())
    assert values.shape == (16, 20)
    left, right, low, high = drawn.get_extent()
    assert (right - left, high - low) == (80, 64)
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert left + 4 * column <= 30 < left + 4 * (column + 1)
    assert low + 4 * row <= 20 < low + 4 * (row + 1)
    assert values.max() == pytest.approx(1000 / 16)
    assert (*ax.get_xlim(), *ax.get_ylim()) == (2.5, 82.5, -0.5, 60.5)


def test_a_window_keeps_pixel_coordinates_and_has_its_own_stretch(frame, figure):
    ax = plots.show(frame, figure, window=((25, 35), (15, 25)))
    assert (*ax.get_xlim(), *ax.get_ylim()) == (24.5, 34.5, 14.5, 24.5)
    np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()), frame.data[15:25, 25:35])
    assert list(ax.images[0].get_extent()) == [24.5, 34.5, 14.5, 24.5]
    for wrong in (((0, 81), (0, 60)), ((5, 5), (0, 9)), ((-1, 5), (0, 9)), (1, 2, 3), "ab"):
        with pytest.raises(errors.OptionError, match="window"):
            plots.show(frame, figure, window=wrong)


@pytest.mark.parametrize("stretch", ["asinh", "linear", "log", "zscale"])
def test_every_stretch_has_a_colour_bar_with_the_unit_and_ticks_inside(frame, figure, stretch):
    ax = plots.show(frame, figure, stretch=stretch, colorbar=True)
    figure.draw_without_rendering()
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "electron"
    norm = ax.images[0].norm
    ticks = [tick for tick in bar.get_yticks() if norm.vmin <= tick <= norm.vmax]
    assert len(ticks) >= 4
    grey = np.asarray(norm(ticks))
    assert np.ptp(grey) > 0.5
    assert (np.diff(grey) > 0.03).all()
    assert bar.bbox.height == pytest.approx(ax.bbox.height, rel=0.02)
    with pytest.raises(errors.OptionError, match="asinh, linear, log, zscale"):
        plots.show(frame, figure, stretch="cubic")


def test_it_draws_where_it_is_told_to_and_gives_the_axes_back(frame):
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(1, 2)
    assert plots.show(frame, axes[1]) is axes[1]
    assert not axes[0].images
    assert plots.show(frame).figure.number in plt.get_fignums()  # a new one that a notebook shows


def test_pictures_can_be_saved_even_where_nothing_is_finite(frame, tmp_path):
    empty = larun.Frame.from_arrays(np.full((4, 4), np.nan))
    for image in (frame, empty, larun.Frame.from_arrays([[5.0]])):
        figure = Figure()
        plots.save(plots.show(image, figure, flags=True, colorbar=True), tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 1000


def test_a_strip_fills_its_axes_without_angles_that_are_not_true(figure, rng):
    strip = larun.Frame.from_arrays(
        rng.normal(size=(4, 400)), flags=np.eye(4, 400, dtype=np.uint32), header=wcs_cards(400, 4)
    )
    ax = plots.show(strip, figure, flags=True)
    figure.draw_without_rendering()
    assert ax.bbox.height > 0.3 * ax.bbox.width
    assert "N" not in {text.get_text() for text in ax.texts}
    assert plots.show(strip, figure, window=((0, 20), (0, 4))).get_aspect() == 1


def test_pixels_without_a_value_have_a_colour_of_their_own(figure):
    data = np.ones((4, 4))
    data[1, 2] = np.nan
    drawn = plots.show(larun.Frame.from_arrays(data), figure).images[0]
    colours = drawn.to_rgba(drawn.get_array())
    assert colours[1, 2].tolist() == pytest.approx([0, 114 / 255, 178 / 255, 1], abs=0.01)
    assert np.ptp(colours[0, 0, :3]) == 0


def test_what_cannot_be_drawn_says_so():
    for shape in ((3,), (0, 4)):
        with pytest.raises(errors.OptionError, match=str(shape[0])):
            plots.show(np.zeros(shape))
    with pytest.raises(errors.OptionError, match="no flags"):
        plots.show(np.zeros((3, 3)), flags=True)


def test_matplotlib_loads_on_first_use_and_its_absence_names_the_extra():
    code = (
        "import sys, numpy as np\n"
        "from larun import errors, plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "for draw in (plots.show, plots.draw_flags, plots.draw_catalog, plots.save):\n"
        "    try:\n"
        "        draw(np.zeros((3, 3)), *[None] * (draw is not plots.show))\n"
        "    except errors.MissingExtra as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'larun[plots]'") == 4
