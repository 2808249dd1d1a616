"""``subtract(method="zogy")``: the same product as of the other method, by the point-spread functions of both."""

import warnings

import numpy as np
import pytest

import larun
from larun.errors import CatalogError, OptionError
from tests.algorithms.pair_fields import pair, psf_of
from tests.model.subtracting.test_difference import raw

SHAPE = (360, 380)
NEW = ((200.3, 180.2, 5000.0), (300.1, 90.7, 3000.0))
GONE = ((90.4, 260.6, 4000.0),)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    field = pair(SHAPE, seed=4, stars=420, change=0.0, brightest=4e5)
    rng, psfs = np.random.default_rng(5), [psf_of(SHAPE, wide, change=0.0) for wide in (3.6, 2.7)]
    new, gone = (
        rng.poisson(psf.draw(SHAPE, *np.array(places).T)) for psf, places in zip(psfs, (NEW, GONE), strict=True)
    )
    science = raw(folder / "science.fits", field.science + new, "now")
    reference = raw(folder / "reference.fits", field.reference + gone, "then")
    return folder, science, reference, [science.psf(), reference.psf()]


@pytest.fixture(scope="module")
def made(night):
    _, science, reference, psfs = night
    return science.subtract(reference, method="zogy", psfs=psfs)


def test_it_knows_what_was_done(night, made):
    _, _, reference, psfs = night
    assert isinstance(made, larun.DifferenceImage)
    assert (made.convolved, made.unit, made.shape, made.noise_acf) == ("reference", "electron", SHAPE, None)
    assert made.scale == pytest.approx(1, abs=0.015)
    assert made.kernel_at(190.0, 180.0).sum() == pytest.approx(made.scale)
    fitted = made.provenance.step.fitted
    assert fitted["aligned"] is None
    assert fitted["stamps"] > 50
    assert fitted["chi2"] == pytest.approx(1, abs=0.1)
    assert sorted(parent.role for parent in made.provenance.parents) == ["psfs", "psfs", "reference", "self"]
    assert [item.master for item in made.shared] == [reference.provenance.id]
    assert psfs[1].fwhm < made.point_spread.fwhm < psfs[0].fwhm
    good = made.flags == 0
    assert (made.data / made.uncertainty)[good].std() == pytest.approx(1, abs=0.03)
    assert np.quantile(np.abs(made.score[good]), 0.6827) == pytest.approx(1, abs=0.04)


def test_both_signs_are_found_and_measured(made):
    table = made.detect().table
    places = (*NEW, *((x, y, -flux) for x, y, flux in GONE))
    for x, y, flux in places:
        row = table[np.argmin(np.hypot(table["x"].value - x, table["y"].value - y))]
        assert np.hypot(row["x"].value - x, row["y"].value - y) < 4 * row["x_error"].value < 1
        assert abs(row["flux"].value - flux) < 4 * row["flux_error"].value < 0.4 * abs(flux)
        assert not row["doubt"]
    assert np.sum(~table["doubt"]) <= 5
    found = made.forced([place[:2] for place in places]).table
    for row, (_, _, flux) in zip(found, places, strict=True):
        assert abs(row["flux"].value - flux) < 4 * row["flux_error"].value
    empty = np.random.default_rng(3).uniform(30, 330, (600, 2))
    found = made.forced(empty).table
    quiet = np.asarray(found["flags"]) == 0
    assert np.quantile(np.abs(found["snr"][quiet]), 0.6827) == pytest.approx(1, abs=0.08)


def test_swapped_images_change_the_sign(night, made):
    _, science, reference, psfs = night
    swapped = reference.subtract(science, method="zogy", psfs=psfs[::-1])
    assert swapped.scale * made.scale == pytest.approx(1, abs=1e-4)
    good = (made.flags == 0) & (swapped.flags == 0)
    assert good.sum() == (made.flags == 0).sum()
    assert np.allclose(swapped.data[good] * made.scale, -made.data[good], atol=0.01 * np.nanstd(made.data))
    assert np.allclose(swapped.score[good], -made.score[good], atol=0.02)


def test_it_is_written_and_made_again_from_the_raw_files(night, made, tmp_path):
    assert larun.DifferenceImage.read(made.write(tmp_path / "difference.fits")).identical(made)
    again = larun.replay(made, raw=night[0])
    assert again.equal
    assert again.again.identical(made)
    part = made.crop((60, 300), (40, 330))
    assert np.allclose(part.kernel_at(100.0, 100.0), made.kernel_at(160.0, 140.0))


def test_psfs_of_the_images_are_the_default_and_a_reference_elsewhere_is_aligned(night):
    folder, science, _, psfs = night
    field = pair(SHAPE, seed=4, stars=420, change=0.0, brightest=4e5)
    shifted = raw(folder.parent / "moved-proper.fits", np.roll(field.reference, (3, -5), (0, 1)), "then")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        made = science.subtract(shifted, method="zogy", options=larun.ProperOptions(background=1))
        assert made.provenance.step.fitted["aligned"] == "reference"
        with pytest.raises(OptionError, match="psfs: the reference had to be put on other pixels"):
            science.subtract(shifted, method="zogy", psfs=psfs)
    good = made.flags == 0
    assert (made.data / made.uncertainty)[good].std() == pytest.approx(1, abs=0.04)
    found = made.detect(8.0).table
    for x, y, _ in NEW:
        assert np.hypot(found["x"].value - x, found["y"].value - y).min() < 0.5


def test_what_cannot_be_subtracted_is_refused(night):
    _, science, reference, psfs = night
    with pytest.raises(OptionError, match="psfs has 1: give that of the image and that of the reference"):
        science.subtract(reference, method="zogy", psfs=psfs[:1])
    blank = larun.Frame.from_arrays(
        np.random.default_rng(1).normal(100, 5, SHAPE), variance=np.full(SHAPE, 25.0), unit="electron"
    )
    with pytest.warns(larun.errors.LarunWarning, match="too few stars"), pytest.raises(CatalogError):
        science.subtract(blank, method="zogy", align="none")
