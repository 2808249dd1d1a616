"""Proper differences: against the formulas of the paper done plainly, and by simulations with known truth."""

import attrs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.arrays import read_only
from larun.algorithms.taken import bright_stars, look_at, polynomial_through
from larun.algorithms.zogy import ProperOptions, proper_difference, refined_ratio
from larun.algorithms.zogy_filters import ProperPair, matching_kernel, proper_psf_of
from larun.errors import NotAligned, OptionError
from tests.algorithms.pair_fields import pair, psf_of
from tests.algorithms.reference_zogy import zogy

SHAPE = (400, 420)
SEEING = (3.6, 2.7)


def constant(psf):
    return attrs.evolve(psf, nodes=read_only(psf.nodes[:1], np.float64))


def pair_of(field, *, fwhm=SEEING, change=0.0, ratio=1.0, planes=None, flags=None):
    """Both images with their true PSFs, a ratio to begin with, and the sky between them; stars."""
    science, reference = planes or (field.science, field.reference)
    bits = flags or (np.zeros(science.shape, np.uint32),) * 2
    images = look_at(science, field.science_variance, bits[0]), look_at(reference, field.reference_variance, bits[1])
    psfs = [psf_of(science.shape, wide, change=change * sign) for wide, sign in zip(fwhm, (1, -1), strict=True)]
    psfs = psfs if change else [constant(psf) for psf in psfs]
    made = ProperPair(science=images[0], reference=images[1], psfs=tuple(psfs), ratio=ratio, skies=(np.zeros(6),) * 2)
    skies = [polynomial_through(image.sky.mesh_level - image.level, made.shape, 2, made.domain) for image in images]
    made = attrs.evolve(made, skies=tuple(skies))
    x, y = bright_stars(images[int(fwhm[1] < fwhm[0])], 14, 13, 400)
    return made, (x.astype(np.int64), y.astype(np.int64))


def difference_of(field, **more):
    made, stars = pair_of(field, **more)
    found = refined_ratio(made, *stars)
    made = attrs.evolve(made, ratio=found.ratio)
    return proper_difference(made, (stars[0][found.used], stars[1][found.used])), made, found


def pixels(psf, reach=None):
    reach = psf.radius if reach is None else reach
    at = np.arange(-reach, reach + 1.0)
    values = psf.values(at[None], at[:, None])[0]
    return values / values.sum()


def test_it_is_what_the_paper_says():
    field = pair(SHAPE, seed=4, stars=300, change=0.0)
    made, stars = pair_of(field)
    made = attrs.evolve(made, skies=(np.zeros(1),) * 2)
    ours = proper_difference(made, stars, astrometric=0.0)
    sigma = [float(np.median(image.sky.variance)) for image in made.images]
    theirs = zogy(
        tuple(np.asarray(image.data, float) - image.level for image in made.images),
        tuple(pixels(psf) for psf in made.psfs),
        sigmas=tuple(np.sqrt(sigma)),
        scales=(1.0, 1.0),
        variances=(field.science_variance, field.reference_variance),
    )
    good = ours.flags == 0
    # where both PSFs have nothing the formula divides rounding errors: frequencies that stars have are compared
    apart, both = (
        gaussian_filter(np.where(good, plane, 0.0), 1.3)[good]
        for plane in (ours.data - theirs.difference / theirs.zero_point, ours.data)
    )
    assert good.mean() > 0.9
    assert np.std(apart) < 0.02 * np.std(both)  # the noise of the sky changes a little over the image
    # the score: the same filter, where noise is that of the sky; and of the stars within what a model of them is off
    sky = good & (field.science_variance < 1.05 * np.median(field.science_variance))
    slope = np.sum((ours.score * theirs.corrected)[sky]) / np.sum(theirs.corrected[sky] ** 2)
    assert slope == pytest.approx(1, abs=0.02)
    assert np.std((ours.score - theirs.corrected)[sky]) < 0.05
    assert np.std((ours.score - theirs.corrected)[good]) < 0.1
    middle = theirs.psf[:15, :15]
    own = proper_psf_of(made)
    at = np.arange(15.0)
    assert np.max(np.abs(own.values(at[None], at[:, None])[0] - middle)) < 0.002 * middle.max()


CASES = {
    "sharper reference": {},
    "sharper science": {"fwhm": (2.7, 3.6)},
    "deep reference": {"sky": (300.0, 60.0), "read_noise": 3.0},
    "much sharper": {"fwhm": (5.5, 3.0)},
    "fainter": {"scale": 0.5},
    "varying": {"change": 0.02},
}


@pytest.mark.parametrize("case", CASES)
def test_noise_is_white_and_the_score_a_unit_gaussian(case):
    known = CASES[case]
    pulls, scores, beside = [], [], []
    for seed in (20, 21):
        field = pair(SHAPE, **({"seed": seed, "stars": 400, "change": 0.0} | known))
        how = {name: known[name] for name in ("fwhm", "change") if name in known}
        made, own, found = difference_of(field, ratio=1.02 * known.get("scale", 1.0), **how)
        assert own.ratio == pytest.approx(known.get("scale", 1.0), rel=3.5 * found.error / own.ratio)
        assert found.error < 0.0025 * own.ratio
        good = made.flags == 0
        with np.errstate(invalid="ignore"):
            pull = made.data / np.sqrt(made.science_variance + made.reference_variance)
        sky = good & (field.science_variance < 1.1 * np.median(field.science_variance))
        for lag in (1, 2, 3):
            both = sky[:, lag:] & sky[:, :-lag]
            assert abs(np.mean((pull[:, lag:] * pull[:, :-lag])[both])) < 0.016
        pulls.append(pull[sky])
        scores.append(made.score[good & (made.score != 0)])
        beside.append(made.score[good & ~sky])
        assert np.abs(made.score).max() < 6
    assert np.std(np.concatenate(pulls)) == pytest.approx(1, abs=0.008)
    assert abs(np.mean(np.concatenate(pulls))) < 0.02
    score, near = np.concatenate(scores), np.concatenate(beside)
    assert near.size > 6_000
    assert abs(score.mean()) < 0.04
    assert score.std() == pytest.approx(1, abs=0.015)
    assert near.std() == pytest.approx(1, abs=0.05)


def test_what_is_new_keeps_its_flux_and_exchanged_images_give_the_opposite():
    field = pair(SHAPE, seed=11, change=0.0)
    made, own, _ = difference_of(field)
    y, x = (part.ravel() for part in np.meshgrid(np.arange(60, 360, 60), np.arange(60, 380, 60)))
    flux = np.random.default_rng(1).uniform(5000, 20000, x.size)
    star = own.psfs[0].draw(SHAPE, x, y, flux).astype(np.float32)
    science = own.science._replace(data=read_only(own.science.data + star, np.float32))
    new = proper_difference(attrs.evolve(own, science=science), (x[:0], y[:0]), astrometric=made.astrometric)
    light = new.data.astype(float) - made.data
    found = []
    psf = pixels(proper_psf_of(own), 15)
    for a, b in zip(x, y, strict=True):
        stamp = light[b - 15 : b + 16, a - 15 : a + 16]
        found.append(float(np.sum(stamp * psf) / np.sum(psf**2)))
    assert np.sum(found) / np.sum(flux) == pytest.approx(1, abs=0.005)
    turned = ProperPair(
        science=own.reference, reference=own.science, psfs=own.psfs[::-1], ratio=1 / own.ratio, skies=own.skies[::-1]
    )
    swapped = proper_difference(turned, (x[:0], y[:0]), astrometric=made.astrometric)
    good = made.flags == 0
    assert np.array_equal(made.flags, swapped.flags)
    assert np.allclose(swapped.data[good] * own.ratio, -made.data[good], atol=0.005 * np.nanstd(made.data))
    assert np.allclose(swapped.score[good], -made.score[good], atol=0.005)


def test_what_has_no_value_is_flagged_as_far_as_it_is_seen():
    field = pair(SHAPE, seed=13, change=0.0)
    clean, _, _ = difference_of(field)
    rng = np.random.default_rng(3)
    planes = [field.science.copy(), field.reference.copy()]
    bits = [np.zeros(SHAPE, np.uint32) for _ in range(2)]
    for plane, flags in zip(planes, bits, strict=True):
        j, i = rng.integers(20, 380, (2, 30))
        plane[j, i], flags[j, i] = 60_000, fl.COSMIC
    planes[0][200:204, 200:206], bits[0][200:204, 200:206] = 5e4, fl.SATURATED
    made, _, _ = difference_of(field, planes=planes, flags=bits)
    assert np.all(made.flags[(bits[0] | bits[1]) != 0] & (fl.COSMIC | fl.SATURATED))
    assert made.flags[196, 202] & fl.SATURATED
    assert (made.flags & fl.COSMIC != 0).sum() < 60 * 150
    good = (made.flags == 0) & (clean.flags == 0)
    noise = np.sqrt(clean.science_variance + clean.reference_variance)
    assert np.abs((made.data - clean.data) / noise)[good].max() < 1.5
    assert np.abs(made.score[good]).max() < 6
    assert np.all(made.score[(made.flags & fl.UNUSABLE) != 0] == 0)
    assert np.isnan(made.data[(made.flags & fl.NO_DATA) != 0]).all()
    assert np.isfinite(made.data[(made.flags & fl.NO_DATA) == 0]).all()


def test_stars_out_of_place_are_noise_beside_them():
    field = pair(SHAPE, seed=22, stars=350, change=0.0)
    away = np.random.default_rng(1).normal(0, 0.08, (2, 350))
    psf = constant(field.psf)
    light = psf.draw(SHAPE, field.x + away[0], field.y + away[1], field.flux) - psf.draw(
        SHAPE, field.x, field.y, field.flux
    )
    moved = field._replace(science=field.science + light.astype(np.float32))
    quiet, _, _ = difference_of(field)
    made, own, _ = difference_of(moved)
    assert quiet.astrometric < 0.02
    assert made.astrometric == pytest.approx(0.08, abs=0.03)
    blind = proper_difference(own, (np.zeros(0, np.int64),) * 2, astrometric=0.0)
    assert np.abs(made.score).max() < 0.7 * np.abs(blind.score).max()


def test_threads_change_no_bit_and_what_makes_no_sense_is_refused():
    field = pair((300, 310), seed=4, stars=250)
    made, stars = pair_of(field, change=0.02)
    found = []
    for count in (1, 3):
        jit.set_threads(count)
        try:
            found.append(proper_difference(made, stars))
        finally:
            jit.set_threads(None)
    for one, two in zip(found[0][:5], found[1][:5], strict=True):
        assert one.tobytes() == two.tobytes()
    assert found[0].astrometric == found[1].astrometric
    for convolved, sign in (("reference", 1), ("science", -1)):
        kernel = matching_kernel(attrs.evolve(made, ratio=2.0), convolved)
        assert kernel.at(150.0, 140.0).sum() == pytest.approx(2.0**sign)
    with pytest.raises(OptionError, match="ratio = -1"):
        attrs.evolve(made, ratio=-1)
    with pytest.raises(OptionError, match="must be one"):
        attrs.evolve(made, reference=pair_of(pair((200, 210), seed=1, stars=100))[0].reference)
    with pytest.raises(OptionError, match="stars = 2"):
        ProperOptions(stars=2)
    with pytest.raises(OptionError, match="background = 4"):
        ProperOptions(background=4)
    with pytest.raises(NotAligned, match="2 stars to be measured"):
        refined_ratio(made, stars[0][:2], stars[1][:2])
