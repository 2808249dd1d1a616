"""The picture of an image: what is drawn, where, and what happens without matplotlib."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

import larun
from larun import errors, flags, plots

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.fixture
def frame(rng):
    sky = rng.normal(100, 5, (60, 80))
    sky[20, 30] += 2000
    bits = np.zeros((60, 80), np.uint32)
    bits[:, 7] = flags.BAD
    bits[5, 5] = flags.COSMIC | flags.INTERPOLATED
    sky[:, 7] = 1e6
    return larun.Frame.from_arrays(sky, variance=np.full((60, 80), 25.0), flags=bits, unit="electron")


def test_unusable_pixels_do_not_count_for_the_stretch(frame):
    drawn = plots.show(frame).images[0]
    assert drawn.norm.vmax < 3000
    assert plots.show(frame.data).images[0].norm.vmax > 1e5


def test_values_and_orientation_are_those_of_the_image(frame):
    ax = plots.show(frame)
    drawn = ax.images[0]
    np.testing.assert_array_equal(np.asarray(drawn.get_array()), frame.data)
    assert drawn.origin == "lower"
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 79.5, -0.5, 59.5)


def test_flags_are_painted_with_their_own_colours_and_counted(frame):
    ax = plots.show(frame, flags=True)
    paint = np.asarray(ax.images[1].get_array())
    assert (paint[:, 7, 3] == 1).all()
    assert paint[..., 3].sum() == 61
    assert not np.allclose(paint[5, 5], paint[0, 7])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["BAD 60", "COSMIC 1", "INTERPOLATED 1"]


def test_circles_lie_on_the_sources_in_pixels(frame):
    found = frame.detect(fwhm=2.0)
    ax = plots.show(frame, catalog=found)
    (circles,) = ax.collections
    np.testing.assert_allclose(circles.get_offsets(), np.column_stack([found["x"].value, found["y"].value]))
    assert circles.get_widths()[0] == pytest.approx(6.0)


def test_it_draws_where_it_is_told_to_and_gives_the_axes_back(frame):
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(1, 2)
    assert plots.show(frame, axes[1]) is axes[1]
    assert not axes[0].images


def test_pictures_can_be_saved_even_where_nothing_is_finite(frame, tmp_path):
    empty = larun.Frame.from_arrays(np.full((4, 4), np.nan))
    for image in (frame, empty):
        ax = plots.show(image, flags=True)
        ax.figure.savefig(tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 1000


def test_what_cannot_be_drawn_says_so():
    with pytest.raises(errors.OptionError, match=r"\(3,\)"):
        plots.show(np.zeros(3))
    with pytest.raises(errors.OptionError, match="no flags"):
        plots.show(np.zeros((3, 3)), flags=True)


def test_matplotlib_loads_on_first_use_and_its_absence_names_the_extra():
    code = (
        "import sys, numpy as np\n"
        "from larun import errors, plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "try:\n"
        "    plots.show(np.zeros((3, 3)))\n"
        "except errors.MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'larun[plots]'" in done.stdout
