"""The page about a catalogue."""

import numpy as np
import pytest

from larun import errors, plots
from larun.plots.catalog import magnitudes_of


def panels(figure):
    return {ax.get_ylabel(): ax for ax in figure.axes}


def points(ax):
    return sorted(map(tuple, np.vstack([np.asarray(item.get_offsets()) for item in ax.collections]).tolist()))


def test_errors_sizes_and_shapes_stand_against_magnitude(sources, figure):
    assert plots.show_catalog(sources, figure) is figure
    figure.draw_without_rendering()
    axes = panels(figure)
    assert list(axes) == ["sources", "error (mag)", "FWHM (pixel)", "ellipticity"]
    mags = sources["mag_total"].value
    for label, name in (("error (mag)", "mag_total_error"), ("FWHM (pixel)", "fwhm"), ("ellipticity", "ellipticity")):
        values = getattr(sources[name], "value", sources[name])
        expected = sorted((m, v) for m, v in zip(mags, values, strict=True) if np.isfinite(v))
        np.testing.assert_allclose(points(axes[label]), expected)
    assert figure.get_supxlabel() == "instrumental total magnitude (mag)"
    assert axes["error (mag)"].get_yscale() == "log"
    assert axes["FWHM (pixel)"].lines[0].get_ydata()[0] == sources.meta["fwhm"]


def test_flagged_sources_are_apart_and_everyone_is_counted(sources, figure):
    plots.show_catalog(sources, figure)
    axes = panels(figure)
    plain, flagged = axes["error (mag)"].collections
    assert (len(plain.get_offsets()), len(flagged.get_offsets())) == (29, 1)
    assert not np.allclose(plain.get_facecolor()[0], flagged.get_edgecolor()[0])
    assert [text.get_text() for text in axes["sources"].get_legend().get_texts()] == ["sources 29", "flagged sources 1"]
    assert sum(patch.get_data().values.sum() for patch in axes["sources"].patches) == 30


def test_the_best_magnitudes_are_taken(field, sources):
    assert magnitudes_of(sources).name == "instrumental total magnitude"
    detected = field.detect()
    found = magnitudes_of(detected)
    np.testing.assert_allclose(found.value, -2.5 * np.log10(detected["flux"].value))
    expected = detected["flux_error"].value / detected["flux"].value
    np.testing.assert_allclose(found.error, 1.0857362 * expected, rtol=1e-6)
    forced = field.photometer([(30.3, 30.7), (90.3, 30.7)], (4.0,), unit="pixel")
    assert magnitudes_of(forced).name == "instrumental magnitude in the smallest aperture"


def test_panels_without_columns_are_left_out(field, figure):
    forced = field.photometer([(30.3, 30.7), (90.3, 30.7), (100, 100)], (4.0,), unit="pixel")
    plots.show_catalog(forced, figure)
    assert list(panels(figure)) == ["sources", "error (mag)"]
    figure.draw_without_rendering()


def test_no_source_and_no_magnitude(sources, figure):
    plots.show_catalog(sources.select(np.zeros(len(sources), bool)), figure)
    figure.draw_without_rendering()
    table = sources.table
    bare = sources._replace(table=table["id", "x", "y"])
    with pytest.raises(errors.CatalogError, match="neither magnitudes nor fluxes"):
        plots.show_catalog(bare, figure)
