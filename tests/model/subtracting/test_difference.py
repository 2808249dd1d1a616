import copy
import pickle
import warnings

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.errors import LarunWarning, NotAligned, OptionError, UnitMismatch
from larun.model.subtracting.finding import COLUMNS
from tests.algorithms.pair_fields import pair

SHAPE = (360, 380)
NEW = ((200.3, 180.2, 5000.0), (300.1, 90.7, 3000.0))
GONE = ((90.4, 260.6, 4000.0),)


def raw(path, data, name):
    header = fits.Header({"OBJECT": name, "GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, "IMAGETYP": "object"})
    header["DATE-OBS"] = "2024-03-01T01:00:00"
    fits.PrimaryHDU(np.clip(np.rint(data), 0, 65535).astype(np.uint16), header).writeto(path)
    return larun.Frame.read(path).calibrate(without=("bias", "dark", "flat"))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    field = pair(SHAPE, seed=4, stars=420, change=0.03, brightest=4e5)
    rng = np.random.default_rng(5)
    new, gone = (rng.poisson(field.psf.draw(SHAPE, *np.array(places).T)) for places in (NEW, GONE))
    science = raw(folder / "science.fits", field.science + new, "now")
    return folder, science, raw(folder / "reference.fits", field.reference + gone, "then")


OPTIONS = larun.SubtractOptions(order=1)


@pytest.fixture(scope="module")
def made(night):
    return night[1].subtract(night[2], options=OPTIONS)


def test_it_knows_what_was_done(night, made):
    _, _science, reference = night
    assert isinstance(made, larun.DifferenceImage)
    assert (made.convolved, made.unit, made.shape) == ("reference", "electron", SHAPE)
    assert made.scale == pytest.approx(1, abs=0.015)
    fitted = made.provenance.step.fitted
    assert fitted["aligned"] is None
    assert fitted["stamps"] > 50
    assert fitted["chi2"] == pytest.approx(1, abs=0.1)
    assert [parent.role for parent in made.provenance.parents] == ["self", "reference"]
    assert made.kernel_at(190.0, 180.0).sum() == pytest.approx(made.scale)
    assert [item.master for item in made.shared] == [reference.provenance.id]
    assert np.nanmax(made.shared[0].variance) <= 0
    good = made.flags == 0
    pull = (made.data / made.uncertainty)[good]
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert np.quantile(np.abs(made.score[good]), 0.6827) == pytest.approx(1, abs=0.04)


def test_both_signs_are_found(made):
    table = made.detect().table
    assert set(table.colnames) <= {column.name for column in COLUMNS}
    for x, y, flux in (*NEW, *((x, y, -flux) for x, y, flux in GONE)):
        row = table[np.argmin(np.hypot(table["x"].value - x, table["y"].value - y))]
        assert np.hypot(row["x"].value - x, row["y"].value - y) < 4 * row["x_error"].value < 1
        assert abs(row["flux"].value - flux) < 4 * row["flux_error"].value < 0.4 * abs(flux)
        assert not row["doubt"]
    assert np.sum(~table["doubt"]) <= 4
    assert np.all(np.diff(table["snr"]) <= 0)
    with pytest.raises(OptionError, match="takes a threshold alone"):
        made.detect(fwhm=3.0)
    with pytest.raises(OptionError, match="threshold = -1"):
        made.detect(-1)


def test_swapped_images_change_the_sign(night, made):
    _, science, reference = night
    swapped = reference.subtract(science, options=OPTIONS)
    assert swapped.convolved == "science"
    good = (made.flags == 0) & (swapped.flags == 0)
    factor = swapped.scale
    assert np.allclose(swapped.data[good], -factor * made.data[good], atol=0.01 * np.nanstd(made.data))
    assert np.allclose(swapped.score[good], -made.score[good], atol=0.02)


def test_two_filters_are_told(night):
    _, science, reference = night
    one, two = (
        larun.Frame.from_arrays(image.data, variance=image.variance, unit="electron", header={"FILTER": band})
        for image, band in ((science, "V"), (reference, "R"))
    )
    with pytest.warns(LarunWarning, match="taken in V, the reference in R"):
        one.subtract(two, options=OPTIONS)


def test_it_is_written_and_read(made, tmp_path):
    path = made.write(tmp_path / "difference.fits")
    again = larun.DifferenceImage.read(path)
    assert again.identical(made)
    assert np.array_equal(again.detect().table["x"].value, made.detect().table["x"].value)
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert other.identical(made)
        assert not other.kernel.flags.writeable
        assert not other.score.flags.writeable


def test_a_window_of_it_knows_its_kernel(made):
    part = made.crop((60, 300), (40, 330))
    assert np.allclose(part.kernel_at(100.0, 100.0), made.kernel_at(160.0, 140.0))
    assert np.array_equal(part.score, made.score[40:330, 60:300], equal_nan=True)
    whole = made.point_spread.values(0.0, 0.0, 160.0, 140.0)[0]
    assert part.point_spread.values(0.0, 0.0, 100.0, 100.0)[0] == pytest.approx(whole)


def test_it_is_made_again_from_the_raw_files(night, made):
    again = larun.replay(made, raw=night[0])
    assert again.equal
    assert again.again.identical(made)


def test_fluxes_at_given_places_are_made_again_from_the_raw_files(night, made, tmp_path):
    folder, *_ = night
    places = [place[:2] for place in NEW]
    assert larun.replay(made.forced(places, limit=5.0).write(tmp_path / "forced.ecsv"), raw=folder).equal
    curve = larun.LightCurve.from_differences([made], places).write(tmp_path / "curve.ecsv")
    assert larun.replay(curve, raw=folder).equal
    found = made.forced(places).table
    for row, (_, _, flux) in zip(found, NEW, strict=True):
        assert abs(row["flux"].value - flux) < 4 * row["flux_error"].value


def test_threads_change_no_bit(night, made):
    larun.set_threads(1)
    try:
        again = night[1].subtract(night[2], options=OPTIONS)
    finally:
        larun.set_threads(None)
    assert again.identical(made)


def test_a_reference_on_other_pixels_is_aligned(night):
    folder, science, _ = night
    field = pair(SHAPE, seed=4, stars=420, change=0.03, brightest=4e5)
    moved = np.roll(field.reference, (3, -5), (0, 1))
    shifted = raw(folder.parent / "moved.fits", moved, "then")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        made = science.subtract(shifted, options=OPTIONS)
    assert made.provenance.step.fitted["aligned"] == "reference"
    found = made.detect(8.0).table
    for x, y, _ in NEW:
        assert np.hypot(found["x"].value - x, found["y"].value - y).min() < 0.5
    good = made.flags == 0
    assert (made.data / made.uncertainty)[good].std() == pytest.approx(1, abs=0.03)
    with pytest.raises(OptionError, match="do not have the same pixels"):
        science.subtract(shifted.crop((0, 300), (0, 300)), align="none")


def test_what_cannot_be_subtracted_is_refused(night):
    _, science, reference = night
    with pytest.raises(OptionError, match="method='sfft': must be one of alard-lupton, zogy"):
        science.subtract(reference, method="sfft")
    with pytest.raises(OptionError, match="psfs: method='alard-lupton' takes none"):
        science.subtract(reference, psfs=[])
    with pytest.raises(OptionError, match="takes ProperOptions, not SubtractOptions"):
        science.subtract(reference, method="zogy", options=OPTIONS)
    with pytest.raises(OptionError, match="align='guess'"):
        science.subtract(reference, align="guess")
    with pytest.raises(UnitMismatch):
        science.subtract(_in_counts(reference), align="none")
    blank = larun.Frame.from_arrays(
        np.random.default_rng(1).normal(100, 5, SHAPE), variance=np.full(SHAPE, 25.0), unit="electron"
    )
    with pytest.warns(larun.errors.LarunWarning, match="too few stars"), pytest.raises(NotAligned):
        science.subtract(blank)


def _in_counts(frame):
    return larun.Frame.from_arrays(frame.data, variance=frame.variance, unit="adu")


def test_flags_of_both_are_there(night):
    _, science, reference = night
    bits = science.flags.copy(), reference.flags.copy()
    bits[0][50, 60] |= fl.COSMIC
    bits[1][80, 90] |= fl.BAD
    made = science.with_planes(flags=bits[0]).subtract(reference.with_planes(flags=bits[1]), options=OPTIONS)
    assert made.flags[50, 60] & fl.COSMIC
    assert made.flags[80, 90] & fl.BAD
    assert np.count_nonzero(made.flags & fl.BAD) < 225


def test_acceptance_26_apertures_on_a_difference_have_their_errors():
    field = pair((460, 470), seed=31, stars=330, change=0.02, sky=(300.0, 600.0))
    science, reference = (
        larun.Frame.from_arrays(data, variance=variance, unit="electron", gain=1.0, read_noise=6.0)
        for data, variance in (
            (field.science, field.science_variance),
            (field.reference, field.reference_variance),
        )
    )
    made = science.subtract(reference, options=OPTIONS)
    places = np.random.default_rng(31).uniform(30, 425, (2000, 2))
    table = made.photometer(places, radii=(1.5, 3.0, 6.0), unit="pixel", sky="none").table
    for k in (1, 2, 3):
        good = table[f"aperture_flags_{k}"] == 0
        pull = (table[f"aperture_flux_{k}"] / table[f"aperture_flux_error_{k}"]).value[good]
        assert good.sum() > 1900
        assert abs(pull.mean()) < 0.12
        assert pull.std() == pytest.approx(1, abs=0.05)


def test_blocks_have_no_kernel_and_no_psf_of_their_own(made):
    with pytest.raises(OptionError, match="kernel and psf_nodes of its own pixels"):
        made.bin(2)


def test_a_curve_of_differences_in_a_file_is_known_for_what_it_is(made, tmp_path):
    from larun.report.inspect import describe

    path = larun.LightCurve.from_differences([made], [NEW[0][:2]]).write(tmp_path / "curve.ecsv")
    about = describe(path)
    assert about["class"].endswith("DifferenceCurve")
    assert about["sources"] == 1
