"""Flags and sources over an image: colours, positions, shapes, legends."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import larun
from larun import errors, flags, plots
from larun.plots.overlay import apertures_of


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks(ax, label):
    return [item for item in ax.collections if item.get_label() == label]


def test_flags_are_painted_with_their_own_colours_and_counted(frame, figure):
    ax = plots.show(frame, figure, flags=True)
    paint = np.asarray(ax.images[1].get_array())
    assert (paint[:, 7, 3] == 255).all()
    assert (paint[..., 3] > 0).sum() == 61
    assert not np.allclose(paint[5, 5], paint[0, 7])
    assert legend(ax) == ["BAD 60", "COSMIC 1", "INTERPOLATED 1"]
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 79.5, -0.5, 59.5)


def test_flags_of_a_window_lie_where_they_are(frame, figure):
    ax = plots.show(frame, figure, flags=True, window=((4, 9), (3, 13)))
    paint = np.asarray(ax.images[1].get_array())
    assert (paint[:, 3, 3] == 255).all()
    assert paint[2, 1, 3] == 255
    assert (paint[..., 3] > 0).sum() == 11
    assert legend(ax) == ["BAD 10", "COSMIC 1", "INTERPOLATED 1"]
    dots = {(x, y) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
    assert dots == {(7, y) for y in range(3, 13)} | {(5, 5)}


def test_flags_of_a_camera_have_their_names(figure):
    class Odd(larun.Frame):
        instrument_flags = (flags.Flag("GLOW", 25, "amplifier glow"),)

    bits = np.zeros((5, 5), np.uint32)
    bits[0, 0], bits[1, 1] = 1 << 25, 1 << 30
    image = Odd.from_arrays(np.ones((5, 5)), flags=bits)
    assert legend(plots.show(image, figure, flags=True)) == ["GLOW 1", "bit30 1"]


def test_the_legend_lies_below_the_image(frame, figure):
    ax = plots.show(frame, figure, flags=True, catalog=frame.detect(fwhm=2.0))
    figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y1 < ax.xaxis.get_label().get_window_extent().y0 + 2
    assert ax.get_legend().get_window_extent().y0 >= 0
    assert legend(ax)[-1].startswith("sources")


def test_marks_lie_on_the_sources_in_pixels(field, sources, figure):
    ax = plots.show(field, figure, catalog=sources)
    drawn = np.vstack([item.get_offsets() for item in ax.collections])
    x, y = sources["x"].value, sources["y"].value
    np.testing.assert_allclose(sorted(drawn.tolist()), sorted(np.column_stack([x, y]).tolist()))
    truth = np.array([(30.3 + 60 * (n % 6), 30.7 + 60 * (n // 6)) for n in range(30)])
    nearest = np.hypot(*(truth[:, None] - drawn[None]).transpose(2, 0, 1)).min(axis=1)
    assert nearest.max() < 0.1
    assert legend(ax) == ["sources 29", "flagged sources 1"]


def test_flagged_sources_have_another_colour_and_broken_lines(field, sources, figure):
    ax = plots.show(field, figure, catalog=sources)
    (plain,), (flagged,) = marks(ax, "sources"), marks(ax, "flagged sources")
    np.testing.assert_allclose(flagged.get_offsets(), [(30.3, 90.7)], atol=0.3)
    assert not np.allclose(plain.get_edgecolor()[0], flagged.get_edgecolor()[0])
    assert plain.get_linestyle()[0][1] is None
    assert flagged.get_linestyle()[0][1] is not None


def test_ellipses_follow_the_shapes(field, sources, figure):
    ax = plots.show(field, figure, catalog=sources)
    (plain,) = marks(ax, "sources")
    here = np.hypot(*(np.asarray(plain.get_offsets()) - (30.3, 30.7)).T).argmin()
    long, short = plain.get_widths()[here], plain.get_heights()[here]
    assert short / long == pytest.approx(0.5, abs=0.03)
    assert np.sqrt(long * short) == pytest.approx(3 * 2.355 * np.sqrt(3.0 * 1.5), rel=0.1)
    assert (plain.get_angles()[here] + 90) % 180 - 90 == pytest.approx(0, abs=3)
    round_ones = plots.draw_catalog(sources, plots.show(field, figure), shapes=False)
    for item in round_ones.collections:
        np.testing.assert_allclose(item.get_widths(), 3 * sources.meta["fwhm"])
        np.testing.assert_allclose(item.get_heights(), item.get_widths())


def test_only_what_is_in_the_view_is_drawn(field, sources, figure):
    ax = plots.show(field, figure, window=((0, 100), (0, 50)), catalog=sources)
    assert legend(ax) == ["sources 2"]
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 99.5, -0.5, 49.5)
    plots.draw_catalog(sources.select(np.zeros(len(sources), bool)), plots.show(field, figure))


def test_labels_stand_beside_their_sources_as_plain_text(field, sources, figure):
    ax = plots.draw_catalog(sources, plots.show(field, figure, window=((0, 100), (0, 50))), labels="id")
    x, y = sources["x"].value, sources["y"].value
    numbers = {text.get_text(): text for text in ax.texts if text.get_text().isdigit()}
    inside = {str(i): (a, b) for i, a, b in zip(sources["id"], x, y, strict=True) if a < 100 and b < 50}
    assert set(numbers) == set(inside)
    for name, (a, b) in inside.items():
        assert 0 < np.hypot(*np.subtract(numbers[name].get_position(), (a, b))) < 3 * sources.meta["fwhm"]
        assert not numbers[name].get_parse_math()
    with pytest.raises(errors.CatalogError, match="nothing"):
        plots.draw_catalog(sources, plots.show(field, figure), labels="nothing")


def test_apertures_and_annulus_are_those_of_the_photometry(field, sources, figure):
    one = sources.select(np.arange(len(sources)) == 4)
    ax = plots.draw_catalog(one, plots.show(field, figure), apertures=True)
    fwhm = sources.meta["fwhm"]
    assert [item.get_widths()[0] / 2 / fwhm for item in marks(ax, "apertures")] == pytest.approx([1, 1.5, 2.5])
    assert [item.get_widths()[0] / 2 / fwhm for item in marks(ax, "sky annulus")] == pytest.approx([5, 8])
    assert [text.split()[0] for text in legend(ax)] == ["sources", "apertures", "sky"]


def test_apertures_are_read_from_the_record(field, sources, tmp_path):
    sources.write(tmp_path / "cat.ecsv")
    assert apertures_of(larun.SourceCatalog.read(tmp_path / "cat.ecsv")) == apertures_of(sources)
    given = field.photometer([(50.0, 60.0)], (3.0, 5.0), unit="pixel", annulus=(12.0, 20.0))
    assert apertures_of(given) == ((3.0, 5.0), (12.0, 20.0))
    assert apertures_of(sources.photometer((4.0,), unit="pixel", sky="none")) == ((4.0,), None)
    with pytest.raises(errors.CatalogError, match=r"photometer\(\)"):
        apertures_of(field.detect())


def test_a_small_picture_keeps_room_for_the_image(field, sources):
    figure = Figure(figsize=(3.3, 3.3), layout="constrained")
    ax = plots.show(field, figure, catalog=sources, flags=True, colorbar=True)
    figure.draw_without_rendering()
    assert ax.bbox.width > 0.35 * figure.bbox.width
    assert ax.get_legend().get_window_extent().y0 >= 0
