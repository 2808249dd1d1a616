"""Extinction by colour, and lines in air mass, in light curves whose truth is known."""

import attrs
import numpy as np
import pytest
from astropy.table import QTable

import larun
from larun.errors import CatalogError, OptionError
from larun.model.curves.extinction import without_line
from larun.model.replay.compare import differences
from tests.model.curves import nights

TERM = -0.03  # magnitudes for a magnitude of colour and a unit of air mass
QUICK = larun.LightCurveOptions(clean="none", radius=5.0)


@attrs.frozen
class Coloured:
    frames: list
    positions: np.ndarray  # x, y and colour of the target
    comparison: np.ndarray
    airmass: np.ndarray
    relative: np.ndarray


@pytest.fixture(scope="module")
def night():
    """A setting field; the target is far redder than the others."""
    rng = np.random.default_rng(31)
    x, y = nights.grid(rng)
    colour = rng.uniform(0.3, 1.1, len(x))
    colour[0] = 2.0
    flux = rng.uniform(1.5e5, 4e5, len(x))
    airmass = 1.0 + 1.2 * np.linspace(0, 1, 20) ** 1.5
    relative = nights.box(np.linspace(0, 1, 20), nights.DEPTH)
    frames = []
    for k, air in enumerate(airmass):
        light = flux * 10 ** (-0.4 * (0.25 * air + TERM * colour * air + rng.normal(0, 0.02)))
        light[0] *= relative[k]
        image = nights.picture(x, y, light, 3.0)
        frames.append(nights.frame(image, rng, nights.START + 0.006 * k, AIRMASS=float(air)))
    table = np.column_stack([x, y, colour])
    return Coloured(frames, table[:1], table[1:], airmass, relative)


def away(curve, truth):
    flux, error = (np.asarray(curve.curve()[name]) for name in ("flux", "flux_error"))
    ratio = flux / truth.relative
    return (ratio / np.average(ratio, weights=1 / error**2) - 1) / error


def test_extinction_by_colour_is_taken_out(night):
    plain = larun.LightCurve.extract(night.frames, night.positions[:, :2], options=QUICK)
    made = larun.LightCurve.extract(night.frames, night.positions, comparison=night.comparison, options=QUICK)
    term = made.meta["colour_term"]
    assert term["value"] == pytest.approx(TERM, abs=3 * term["error"])
    assert term["error"] < 0.004
    assert "colour_term" not in plain.meta
    assert np.std(away(plain, night)) > 3
    assert np.std(away(made, night)) < 1.4
    trend = np.corrcoef(away(made, night), night.airmass)[0, 1]
    assert abs(trend) < 0.6 < abs(np.corrcoef(away(plain, night), night.airmass)[0, 1])
    # comparison stars of all colours scatter as their noise says
    used = [star for star in made.meta["stars"] if star["used"]]
    assert len(used) > 0.85 * len(night.comparison)
    assert np.median([star["scatter"] / star["predicted"] for star in used]) == pytest.approx(1, abs=0.15)


def test_colours_come_in_tables_and_the_record_has_them(night):
    from larun.model.replay.calls import Functions, Input, carry_out

    def listed(values):
        return QTable({"x": values[:, 0], "y": values[:, 1], "colour": values[:, 2]})

    frames = night.frames[::4]
    by_array, by_table = (
        larun.LightCurve.extract(frames, kind(night.positions), comparison=kind(night.comparison), options=QUICK)
        for kind in (np.asarray, listed)
    )
    assert by_array.provenance.id == by_table.provenance.id
    inputs = [
        Input(one.role, one.provenance.id, next(f for f in frames if f.provenance.id == one.provenance.id))
        for one in by_array.provenance.parents
    ]
    again = carry_out(by_array.provenance.step, inputs, Functions())
    assert differences(by_array, again) == ()
    assert again.provenance.id == by_array.provenance.id


def test_a_line_in_air_mass_is_an_option_that_is_told(night):
    wanted = attrs.evolve(QUICK, detrend="airmass")
    plain = larun.LightCurve.extract(night.frames, night.positions[:, :2], options=QUICK)
    made = larun.LightCurve.extract(night.frames, night.positions[:, :2], options=wanted)
    line = made.meta["airmass_line"]
    # what colour does is a line in air mass: flux falls less, by the difference of colours
    colours = night.positions[0, 2] - np.mean(night.comparison[:, 2])
    assert line["slopes"][0] == pytest.approx(-TERM * colours * np.log(10) / 2.5, abs=0.008)
    assert "transit" in line["note"]
    assert np.std(away(made, night)) < 0.6 * np.std(away(plain, night))
    assert plain.provenance.step.parameters["options"] == {
        name: value for name, value in made.provenance.step.parameters["options"].items() if name != "detrend"
    }
    from larun.report import lightcurve as report

    assert any("a line in air mass was taken out" in text for text in report.lines(made))


def test_a_line_and_its_error_are_right():
    rng, airmass = np.random.default_rng(5), np.linspace(1, 2, 40)
    off = []
    for _ in range(80):
        flux = (1 + 0.01 * (airmass - 1.5) + rng.normal(0, 0.003, 40))[:, None]
        (line,) = without_line(flux, np.full((40, 1), 0.003), np.ones((40, 1), bool), airmass, 1)
        off.append((line.slope - 0.01) / line.error)
    assert np.mean(off) == pytest.approx(0, abs=3 / np.sqrt(80))
    assert np.std(off) == pytest.approx(1, abs=0.24)


def test_what_cannot_be_done_is_refused(night):
    frames = night.frames[::6]
    with pytest.raises(OptionError, match="colours must be known of the targets and of the comparison stars"):
        larun.LightCurve.extract(frames, night.positions, options=QUICK)
    grey = night.comparison.copy()
    grey[:, 2] = 0.7
    with pytest.raises(CatalogError, match="of one colour"):
        larun.LightCurve.extract(frames, night.positions, comparison=grey, options=QUICK)
    grey[3, 2] = np.nan
    with pytest.raises(OptionError, match="colour of star 4: is not known"):
        larun.LightCurve.extract(frames, night.positions, comparison=grey, options=QUICK)
    airless = nights.night(2, frames=4, targets=1)
    table = np.column_stack([airless.x, airless.y, np.linspace(0, 1, len(airless.x))])
    with pytest.raises(OptionError, match="air mass is not known in 4 of 4 frames"):
        larun.LightCurve.extract(airless.frames, table[:1], comparison=table[1:], options=QUICK)
    with pytest.raises(OptionError, match="detrend='airmass', but air mass"):
        larun.LightCurve.extract(airless.frames, table[:1, :2], options=attrs.evolve(QUICK, detrend="airmass"))
    with pytest.raises(OptionError, match="detrend"):
        larun.LightCurveOptions(detrend="time")
