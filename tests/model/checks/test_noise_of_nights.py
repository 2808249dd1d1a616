"""Noise and photometry of simulated nights: faults are named, clean nights are good, estimates have right errors."""

import attrs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from larun import Amplifier, Detector, Frame, Recipe
from larun.model.checks import apertures, depth, pairs, pixels, stars
from larun.model.checks.facts import frame_facts
from larun.model.checks.material import Material
from larun.model.checks.repeating import fields, isolated, repeated_stars
from larun.model.checks.sameplaces import same_places
from larun.model.masters import Masters
from larun.plots.evidence import show_evidence
from tests.model.checks.nights import material_of, take

TESTS = {
    "pixel noise": pixels.pixel_noise,
    "pixel correlation": pixels.pixel_correlation,
    "empty apertures": apertures.empty_apertures,
    "repeated stars": stars.stars_repeat,
    "flat error": stars.flat_error,
    "frame pairs": pairs.frame_pairs,
    "completeness": depth.completeness_of_sources,
    "limiting magnitude": depth.limiting_magnitude,
}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return take(tmp_path_factory.mktemp("field"), 11)


@pytest.fixture(scope="module")
def clean(truth):
    return material_of(truth)


@pytest.fixture(scope="module")
def wrong_gain(truth):
    return material_of(truth, given={"gain": 1.3 * truth.camera.gain})


def only(verdicts):
    (made,) = verdicts
    return made


@pytest.mark.parametrize("name", TESTS)
def test_a_clean_night_is_good(clean, name):
    for verdict in TESTS[name](clean):
        assert verdict.test == name
        assert verdict.status == "good", str(verdict)
        assert np.isfinite(verdict.value)
        assert verdict.error > 0
        show_evidence(verdict).figure.clear()


def test_scatter_is_that_of_the_errors_within_a_tenth(clean):
    for name in ("repeated stars", "empty apertures", "frame pairs"):
        assert 0.9 < only(TESTS[name](clean)).value < 1.1


def test_a_wrong_gain_is_named(wrong_gain, truth):
    found = only(pixels.pixel_noise(wrong_gain))
    assert found.status == "bad"
    assert float(found.meaning.partition("gain ")[2].split()[0]) == pytest.approx(1.6, rel=0.05), found.meaning
    assert f"instead of {1.3 * truth.camera.gain:.3g}" in found.meaning
    assert "--set detector.gain=measured" in found.fix
    for name in ("empty apertures", "frame pairs"):
        assert only(TESTS[name](wrong_gain)).status in ("bad", "doubtful"), name
    assert only(stars.stars_repeat(wrong_gain)).value == pytest.approx(np.sqrt(1.3), abs=0.1)


def test_a_wrong_read_noise_is_named(truth):
    made = material_of(truth, given={"read_noise": 1.5 * truth.camera.read_noise})
    found = only(pixels.pixel_noise(made))
    assert found.status == "bad"
    assert float(found.meaning.partition("read noise ")[2].split()[0]) == pytest.approx(6, rel=0.1), found.meaning
    assert "detector.read_noise=measured" in found.fix


def smoothed(frame):
    return frame.with_planes(data=gaussian_filter(frame.data, 0.7))


def test_a_smoothed_night_is_named(truth):
    made = material_of(truth, change=smoothed)
    found = only(pixels.pixel_correlation(made))
    assert found.status == "bad"
    assert found.value == pytest.approx(0.6, abs=0.15)
    assert "smoothed" in found.meaning


def wrong_flat(shape, size=0.01):
    """Smooth over an annulus of sky, so that only stars feel it."""
    field = gaussian_filter(np.random.default_rng(5).standard_normal(shape), 18, mode="wrap")
    return 1 + size * field / field.std()


def test_a_flat_that_is_wrong_by_a_hundredth_is_named(truth):
    flat = wrong_flat(truth.camera.shape)
    made = material_of(truth, change=lambda frame: frame.with_planes(data=frame.data * flat))
    found = only(stars.flat_error(made))
    assert found.status == "bad"
    assert found.value == pytest.approx(10.9, abs=4)
    assert found.error < 1.5
    assert "move over the chip" in found.meaning


def test_structure_of_the_chip_is_told_from_that_of_the_sky(truth):
    few = [item for item in truth.frames if item.kind == "object"][:3]
    truth = attrs.evolve(truth, frames=tuple(few))
    flat = wrong_flat(truth.camera.shape, 0.02)
    chip = material_of(truth, change=lambda frame: frame.with_planes(data=frame.data * flat))
    offsets = {item.path.stem: item.offset for item in few}
    faint = 240 * (wrong_flat(truth.camera.shape, 0.02) - 1)

    def with_faint_light(frame):
        dx, dy = offsets[frame.provenance.name.partition(".")[0]]
        moved = np.roll(faint, (round(dy), round(dx)), axis=(0, 1))
        return frame.with_planes(data=frame.data + moved.astype(np.float32))

    sky = material_of(truth, change=with_faint_light)
    for made, own, told in ((chip, "chip", "which no master takes away"), (sky, "sky", "too faint")):
        found = only(apertures.empty_apertures(made))
        assert found.status == "bad"
        assert f"same places of the {own}" in found.meaning, found.meaning
        assert told in found.meaning
        same = {item.of: item for item in same_places(made, made.facts, 2)}
        assert same[own].explains
        assert not any(item.explains for of, item in same.items() if of != own)
        assert 0.002 < same[own].share < 0.02  # the ring around an aperture sees a part of it


def test_frames_of_unlike_seeing_are_compared_in_the_smaller_aperture(clean):
    sharp, soft = clean.facts[:2]
    wide = soft.noise.empty._replace(radii=soft.noise.radii * 4, scatter=soft.noise.scatter + 9)  # looked at first
    assert wide.radii[1] > clean.products[sharp.name]()[1].table.meta["annulus_radii"][0]
    soft = attrs.evolve(soft, noise=soft.noise._replace(empty=wide))
    made = attrs.evolve(clean, facts=(sharp, soft))
    found = same_places(made, made.facts, 1)
    assert found
    assert all(item.radius == pytest.approx(sharp.noise.radii[1]) for item in found)


def test_frames_are_aligned_by_their_stars(truth, clean):
    field = only(fields(clean.facts))
    offsets = {item.path.stem: np.array(item.offset) for item in truth.frames if item.kind == "object"}
    first = offsets[field.frames[0].name]
    for frame, shift in zip(field.frames, field.shift, strict=True):
        np.testing.assert_allclose(shift, offsets[frame.name] - first, atol=0.1)
    assert repeated_stars(clean)[0][0].repeats.used.sum() > 300


def test_stars_with_the_light_of_others_in_their_apertures_do_not_count(clean):
    first = clean.facts[0]
    x, y = (np.append(axis.ravel() * 50.0, extra) for axis, extra in zip(np.mgrid[:8, :8], (25.0, 25.0), strict=True))
    x[3] = x[2] + 1.5 * first.fwhm  # two that touch
    y[3] = y[2]
    flux = np.full(len(x), 1e4)
    lonely = first.stars._replace(x=x, y=y, flux=flux, flux_error=np.sqrt(flux))
    saturated = np.array([[225.0, 225.0, 1e3]])
    field = attrs.evolve(first, stars=lonely, noise=first.noise._replace(flagged=saturated))
    counts = isolated(field)
    assert not counts[[2, 3]].any()
    distant = np.hypot(x - 225, y - 225) > 30 * first.fwhm
    assert counts[distant & (np.arange(len(x)) > 3)].all()
    spoilt = attrs.evolve(field, noise=first.noise._replace(flagged=np.array([[25.0, 25.0 + 4 * first.fwhm, 3e6]])))
    assert counts[-1]
    assert not isolated(spoilt)[-1]


def test_what_cannot_be_tested_says_why(clean):
    one = Material(
        exposures=(), recipe=Recipe(), camera=Frame, masters=Masters(()), facts=clean.facts[:1], products=clean.products
    )
    for name in ("repeated stars", "flat error", "frame pairs"):
        verdict = only(TESTS[name](one))
        assert verdict.status == "untested"
        assert "no two frames" in verdict.meaning
    nothing = Material(exposures=(), recipe=Recipe(), camera=Frame, masters=Masters(()), facts=())
    for name, test in TESTS.items():
        verdict = only(test(nothing))
        assert (verdict.test, verdict.status) == (name, "untested")


def noise_frame(seed, shape=(320, 320)):
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(200.0, shape) + rng.normal(0, 5, shape)
    header = {"OBJECT": f"sky {seed}", "FILTER": "V", "EXPTIME": 10.0, "IMAGETYP": "object"}
    raw = Frame.from_arrays(electrons, header=header, gain=1.0, read_noise=5.0, saturation=60000)
    return raw.calibrate(without=("bias", "dark", "flat"))


def test_empty_apertures_scatter_by_their_errors_over_many_frames():
    found = []
    for seed in range(32):
        frame = noise_frame(seed)
        catalog = Recipe(detect={"fwhm": 3.0}).measure(frame)
        empty = frame_facts(f"sky {seed}", frame, catalog).noise.empty
        found.append(np.concatenate([empty.scatter, empty.error]))
    values, errors = np.hsplit(np.array(found), 2)
    np.testing.assert_allclose(values.mean(axis=0), 1, atol=0.03)
    told = np.sqrt(np.mean(errors**2, axis=0))
    assert 0.8 < np.mean(values.std(axis=0, ddof=1) / told) < 1.2


def test_the_amplifier_with_the_wrong_gain_is_named():
    """Two amplifiers of gain 1, one of which says 1.4."""
    halves = [
        Amplifier(data=(0, 320, x0, x0 + 160), gain=gain, read_noise=5.0, saturation=6e4, name=name)
        for x0, gain, name in ((0, 1.0, "A"), (160, 1.4, "B"))
    ]
    facts = []
    for seed in range(3):
        raw = noise_frame(seed).data
        header = {"FILTER": "V", "EXPTIME": 10.0, "IMAGETYP": "object"}
        frame = Frame.from_arrays(raw, header=header, detector=Detector(amplifiers=halves))
        frame = frame.calibrate(without=("bias", "dark", "flat"))
        facts.append(frame_facts(str(seed), frame, Recipe(detect={"fwhm": 3.0}).measure(frame)))
    made = Material(exposures=(), recipe=Recipe(), camera=Frame, masters=Masters(()), facts=tuple(facts))
    verdict = only(pixels.pixel_noise(made))
    assert (verdict.status, verdict.where) == ("bad", "V, amplifier B")
    assert "instead of 1.4" in verdict.meaning
