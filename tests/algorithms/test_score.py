import numpy as np
import pytest

from larun.algorithms.kernelfield import KernelField, convolve, convolve_variance
from larun.algorithms.score import difference_psf, score, star_psf
from larun.algorithms.subtraction import SubtractOptions, subtract
from larun.algorithms.taken import look_at
from tests.algorithms.pair_fields import pair

SHAPE = (500, 520)


def made_of(field, **options):
    none = np.zeros(field.science.shape, np.uint32)
    science = look_at(field.science, field.science_variance, none)
    reference = look_at(field.reference, field.reference_variance, none)
    made = subtract(science, reference, options=SubtractOptions(**options))
    return made, *((reference, science) if made.convolved == "science" else (science, reference))


CASES = {
    "sharper reference": {},
    "sharper science": {"fwhm": (2.7, 3.6)},
    "deep reference": {"sky": (300.0, 60.0), "read_noise": 3.0},
}


@pytest.mark.parametrize("case", CASES)
def test_acceptance_31_noise_is_a_unit_gaussian_also_beside_bright_stars(case):
    everywhere, beside, beyond = [], [], np.zeros(2, int)
    for seed in range(20, 23):
        field = pair(SHAPE, seed=seed, stars=700, change=0.02, **CASES[case])
        made, kept, convolved = made_of(field, order=1)
        found = score(made, kept, convolved, star_psf(kept))
        good = (made.flags == 0) & (found.data != 0)
        everywhere.append(found.data[good])
        typical = np.median(field.science_variance)
        beside.append(found.data[good & (field.science_variance > 1.1 * typical)])
        beyond += (found.data > 5).sum(), (found.data < -5).sum()
    all_of, near = np.concatenate(everywhere), np.concatenate(beside)
    assert all_of.size > 600_000
    assert near.size > 15_000
    assert abs(all_of.mean()) < 0.01
    assert all_of.std() == pytest.approx(1, abs=0.01)
    assert abs(near.mean()) < 0.03
    assert near.std() == pytest.approx(
        1, abs=0.05
    )  # the kernel was fitted to these stars: a little of their noise is in it
    assert beyond.max() <= 4  # neighbours of one maximum at most


def test_without_whitening_the_score_is_the_same():
    field = pair(SHAPE, seed=20, stars=500, sky=(300.0, 800.0))
    found = []
    for decorrelate in (True, False):
        made, kept, convolved = made_of(field, decorrelate=decorrelate)
        image = score(made, kept, convolved, star_psf(kept)).data
        found.append(image[(made.flags == 0) & (image != 0)])
    for values in found:
        assert values.std() == pytest.approx(1, abs=0.02)


def test_the_psf_of_a_difference_is_that_of_an_injected_star():
    field = pair(SHAPE, seed=21, stars=500, sky=(300.0, 800.0))
    none = np.zeros(SHAPE, np.uint32)
    made, kept, _ = made_of(field)
    assert made.white is not None
    star = kept.data * 0 + field.psf.draw(SHAPE, [260.3], [251.8], [1e4]).astype(np.float32)
    true = convolve(made.white.field, star, None, none).data
    own = difference_psf(field.psf, made, 260.3, 251.8).draw(SHAPE, [260.3], [251.8], [1e4])
    assert np.abs(own - true).max() < 0.003 * true.max()
    assert own.max() > 1.01 * star.max()  # it is sharper than the image's


def test_misplaced_stars_are_noise_beside_them():
    quiet, moved = (pair(SHAPE, seed=22, stars=500, change=0.0) for _ in range(2))
    rng = np.random.default_rng(1)
    away = rng.normal(0, 0.08, (2, 500))  # each star by its own: the kernel cannot follow
    light = moved.psf.draw(SHAPE, moved.x + away[0], moved.y + away[1], moved.flux) - moved.psf.draw(
        SHAPE, moved.x, moved.y, moved.flux
    )
    moved = moved._replace(science=moved.science + light.astype(np.float32))
    found = {}
    for name, field in (("quiet", quiet), ("moved", moved)):
        made, kept, convolved = made_of(field)
        found[name] = score(made, kept, convolved, star_psf(kept))
        blind = score(made, kept, convolved, star_psf(kept), astrometric=0.0)
        if name == "moved":
            assert np.abs(blind.data).max() > 10
            assert np.abs(found[name].data).max() < 0.7 * np.abs(blind.data).max()
    assert found["quiet"].astrometric < 0.02
    assert found["moved"].astrometric == pytest.approx(0.08, abs=0.03)


def test_variances_of_flat_and_steep_places():
    rng = np.random.default_rng(1)
    plane = np.full((90, 100), 7.0, np.float32)
    plane[40:50, 60:70] += rng.uniform(0, 50, (10, 10)).astype(np.float32)
    kernel = rng.normal(0, 1, (5, 5))
    field = KernelField(images=kernel[None], coefficients=np.ones((1, 1)), domain=(0, 1, 0, 1))
    made = convolve_variance(field, plane)
    exact = convolve(field, plane, plane, np.zeros(plane.shape, np.uint32)).variance
    assert np.allclose(made[4:-4, 4:-4], exact[4:-4, 4:-4], rtol=1e-5)
