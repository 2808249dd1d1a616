"""CCDData and NDData in every place where a user hands them over, and back."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS, FITSFixedWarning

import larun
from larun import flags as fl
from larun.errors import LarunWarning, OptionError, UnitMismatch
from larun.model.interop import is_nddata
from larun.model.planes import is_wcs_card
from tests.model.cameras import Plain
from tests.model.test_geometry import SIP

SHAPE = (12, 14)
DATA = np.random.default_rng(4).normal(100, 3, SHAPE)


def ccd_of(**changes):
    return CCDData(**({"data": DATA, "unit": "electron"} | changes))


# -- in ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(np.full(SHAPE, 2.0)),
        VarianceUncertainty(np.full(SHAPE, 4.0)),
        InverseVariance(np.full(SHAPE, 0.25)),
        StdDevUncertainty(np.full(SHAPE, 2000.0), unit=u.electron / 1000),
        StdDevUncertainty(np.array(2.0)),
    ],
    ids=["std", "var", "ivar", "std in another unit", "std of one number"],
)
def test_every_kind_of_uncertainty_becomes_a_variance(uncertainty):
    for kind in (CCDData, NDData):
        image = larun.Image.from_arrays(kind(DATA, unit="electron", uncertainty=uncertainty))
        np.testing.assert_allclose(image.variance, 4.0, rtol=1e-6)
        assert image.unit == "electron"
        assert not image.flags.any()


def test_pixels_without_weight_are_bad():
    weight = np.full(SHAPE, 0.25)
    weight[3, 4] = 0
    image = larun.Image.from_arrays(ccd_of(uncertainty=InverseVariance(weight)))
    assert image.flags[3, 4] == fl.BAD
    assert np.count_nonzero(image.flags) == 1
    noise = np.full(SHAPE, 2.0)
    noise[5, 6] = np.nan
    assert larun.Image.from_arrays(ccd_of(uncertainty=StdDevUncertainty(noise))).flags[5, 6] == fl.BAD


def test_uncertainties_that_make_no_variance():
    with pytest.raises(OptionError, match="'unknown' makes no variance: use StdDev"):
        larun.Image.from_arrays(ccd_of(uncertainty=UnknownUncertainty(np.ones(SHAPE))))
    with pytest.raises(OptionError, match=r"negative in \d+ pixels"):
        larun.Image.from_arrays(ccd_of(uncertainty=StdDevUncertainty(np.where(DATA > 105, -1, 1))))
    wrong = NDData(DATA, unit="electron")
    wrong._uncertainty = StdDevUncertainty(np.ones(SHAPE), unit="s")  # astropy itself would refuse it at the door
    with pytest.raises(OptionError, match=r"in s does not fit data in electron"):
        larun.Image.from_arrays(wrong)
    wrong._uncertainty = StdDevUncertainty(np.ones((3, 3)))
    with pytest.raises(OptionError, match=r"uncertainty has shape \(3, 3\)"):
        larun.Image.from_arrays(wrong)


def test_masks():
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    data = DATA.copy()
    data[7, 8] = np.nan
    image = larun.Frame.from_arrays(ccd_of(data=data, mask=mask))
    assert image.flags[2, 3] == fl.BAD
    assert image.flags[7, 8] == fl.NO_DATA
    assert np.count_nonzero(image.flags) == 2
    whole = larun.Image.from_arrays(NDData(DATA, mask=True))
    assert (whole.flags == fl.BAD).all()
    assert whole.unit == "adu"
    assert not larun.Image.from_arrays(NDData(DATA, mask=np.ma.nomask)).flags.any()
    with pytest.raises(OptionError, match=r"mask has shape \(2, 2\)"):
        larun.Image.from_arrays(NDData(DATA, mask=np.zeros((2, 2), bool)))


def test_nothing_is_said_twice():
    noisy = ccd_of(uncertainty=StdDevUncertainty(np.ones(SHAPE)), mask=np.zeros(SHAPE, bool))
    with pytest.raises(OptionError, match=r"variance=….*has its own"):
        larun.Image.from_arrays(noisy, variance=np.ones(SHAPE))
    with pytest.raises(OptionError, match=r"flags=….*has its own"):
        larun.Image.from_arrays(noisy, flags=np.zeros(SHAPE))
    with pytest.raises(OptionError, match="CCDData is in electron"):
        larun.Image.from_arrays(noisy, unit="Jy")
    image = larun.Image.from_arrays(ccd_of(), variance=np.ones(SHAPE), header={"OBJECT": "M13"})
    assert image.variance.max() == 1
    assert image.header["OBJECT"] == "M13"
    assert larun.Image.from_arrays(NDData(DATA), unit="electron").unit == "electron"


def test_metadata_become_cards_or_are_told():
    meta = {"exptime": 60.0, "OBJECT": "M 13", "a long name": 3, "flag": True, "n": np.int64(5)}
    header = larun.Frame.from_arrays(NDData(DATA, unit="adu", meta=meta)).header
    assert [header[key] for key in ("EXPTIME", "OBJECT", "a long name", "FLAG", "N")] == [60.0, "M 13", 3, True, 5]
    meta |= {"nested": {"a": 1}, "array": np.ones(3), "infinite": np.inf, "text": "a\nb", "umlaut": "ü"}
    with pytest.warns(LarunWarning, match="left behind: nested, array, infinite, text, umlaut"):
        assert larun.Frame.from_arrays(NDData(DATA, meta=meta)).header["EXPTIME"] == 60.0


def test_what_is_no_ccddata():
    for wrong in (DATA, 3, None, NDData(DATA)):
        with pytest.raises(OptionError, match="not a CCDData or an NDData with a unit"):
            larun.Image.from_ccddata(wrong)
    for wrong in (np.ones(3), np.ones((2, 3, 4)), np.ones((0, 3)), np.ones((3, 3), complex)):
        with pytest.raises(OptionError, match="must be a 2-D array of real numbers"):
            larun.Image.from_arrays(NDData(wrong, unit="adu"))
    assert not is_nddata(larun.Image.from_arrays(DATA))
    assert not is_nddata(np.ma.masked_array(DATA))


def test_large_unsigned_integers_are_converted_before_arithmetic():
    image = larun.Image.from_arrays(CCDData(np.array([[1000, 2**63]], np.uint64), unit="adu"))
    assert image.data.tolist() == [[1000.0, float(2**63)]]
    assert (image - 1010).data[0, 0] == -10.0


# -- WCS ---------------------------------------------------------------------------------------------------------------


def test_a_wcs_with_sip_goes_there_and_back():
    header = fits.Header()
    header.update(SIP)
    wcs = WCS(header)
    for meta in ({}, header):
        image = larun.Frame.from_arrays(ccd_of(wcs=wcs, meta=meta))
        assert image.wcs.sip is not None
        x, y = np.array([0.0, 13.0, 5.5]), np.array([0.0, 2.25, 11.0])
        np.testing.assert_allclose(image.wcs.all_pix2world(x, y, 0), wcs.all_pix2world(x, y, 0), rtol=0, atol=1e-12)
        back = image.to_ccddata()
        np.testing.assert_allclose(back.wcs.all_pix2world(x, y, 0), wcs.all_pix2world(x, y, 0), rtol=0, atol=1e-12)


def quiet_wcs(header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # MJD-OBS is made from DATE-OBS
        return WCS(header)


def test_the_cards_of_the_wcs_stay_when_they_say_the_same():
    cards = {**SIP, "DATE-OBS": "2024-05-13T05:00:00"}
    image = larun.Frame.from_arrays(DATA, unit="electron", header=cards)
    for ccd in (image.to_ccddata(), CCDData(DATA, unit="electron", meta=image.header, wcs=quiet_wcs(image.header))):
        back = larun.Frame.from_ccddata(ccd)
        assert [str(card) for card in back.header.cards] == [str(card) for card in image.header.cards]


def test_the_wcs_counts_where_the_header_says_another():
    header = fits.Header()
    header.update(SIP)
    other = header.copy()
    other.update({"CRPIX1": 3.0, "CRPIX2": 4.0, "A_2_0": 1e-4})
    moved = WCS(other)
    image = larun.Frame.from_arrays(ccd_of(wcs=moved, meta=header))
    np.testing.assert_allclose(image.wcs.all_pix2world(5, 6, 0), moved.all_pix2world(5, 6, 0), rtol=0, atol=1e-12)
    assert not {"CD1_1", "PC1_1"} <= set(image.header)


def test_a_wcs_of_another_kind_is_told():
    class Other:
        pass

    ccd = NDData(DATA, unit="adu")
    ccd._wcs = Other()
    with pytest.warns(LarunWarning, match="WCS of type Other is left behind"):
        assert larun.Image.from_arrays(ccd).wcs is None


# -- there and back ----------------------------------------------------------------------------------------------------


def test_there_and_back_keeps_what_a_ccddata_can_hold(sample):
    for image in (sample.raw, sample.clean):
        ccd = image.to_ccddata()
        back = type(image).from_ccddata(ccd)
        assert back.data.tobytes() == image.data.tobytes()
        assert back.flags.tobytes() == image.flags.tobytes()
        assert back.unit == image.unit
        assert [str(card) for card in back.header.cards] == [str(card) for card in image.header.cards]
        assert set(back._wcs_header) == {key for key in image._wcs_header if is_wcs_card(key)}
        if image.variance is None:
            assert back.variance is None
        else:
            np.testing.assert_allclose(np.sqrt(back.variance), image.uncertainty, rtol=1e-6)
        # its own copy, not larun's memory
        ccd.data[:] = 0
        assert image.data.any()


def test_flags_that_no_longer_fit_the_mask_are_not_taken(sample):
    ccd = sample.clean.to_ccddata()
    ccd.mask[10, 10] = True
    back = larun.Frame.from_ccddata(ccd)
    assert back.flags[10, 10] == fl.BAD
    assert set(np.unique(back.flags)) <= {0, int(fl.BAD)}


def test_through_a_file_of_ccdproc(sample, tmp_path):
    sample.clean.to_ccddata().write(tmp_path / "a.fits")
    ccd = CCDData.read(tmp_path / "a.fits")
    back = larun.Frame.from_arrays(ccd)
    assert back.data.tobytes() == sample.clean.data.tobytes()
    np.testing.assert_array_equal(back.unusable, sample.clean.unusable)


# -- masters, bad pixels, arithmetic -----------------------------------------------------------------------------------


def raw_ccds(count=5, level=1000.0, **cards):
    rng = np.random.default_rng(8)
    header = fits.Header({"GAIN": 1.5, "RDNOISE": 6.0, "INSTRUME": "plain test camera", **cards})
    return [
        CCDData((level + 4 * rng.standard_normal((40, 44))).astype(np.float32), unit="adu", meta=header)
        for _ in range(count)
    ]


def test_masters_are_combined_from_ccddata_as_from_files(tmp_path):
    ccds = raw_ccds(IMAGETYP="BIAS")
    paths = []
    for number, ccd in enumerate(ccds):
        paths.append(tmp_path / f"{number}.fits")
        fits.PrimaryHDU(ccd.data, ccd.header).writeto(paths[-1])
    options = larun.BuildOptions(camera=Plain)
    for frames in (ccds, tuple(ccds), iter(ccds)):
        bias = larun.MasterBias.combine(frames, options=options)
        from_files = larun.MasterBias.combine(paths, options=options)
        np.testing.assert_array_equal(np.sort(bias.data, None)[[0, -1]], np.sort(from_files.data, None)[[0, -1]])
        np.testing.assert_allclose(bias.data, from_files.data, rtol=1e-6)
        assert dict(bias.criteria) == dict(from_files.criteria)
        assert bias.count == 5
        assert len(bias.provenance.roots()) == 5
    darks = raw_ccds(level=1200.0, EXPTIME=60.0)
    dark = larun.MasterDark.combine(darks, bias=bias, options=options)
    assert dark.exposure == 60.0
    frame = larun.Frame.from_arrays(darks[0], gain=1.5, read_noise=6.0).calibrate((bias, dark), without=("flat",))
    assert abs(float(np.median(frame.data))) < 1.0


def test_what_the_header_lacks_is_given():
    ccds = [CCDData(ccd.data, unit="adu") for ccd in raw_ccds()]
    bias = larun.MasterBias.combine(ccds, options=larun.BuildOptions(given={"gain": 1.5, "read_noise": 6.0}))
    assert bias.detector.amplifiers[0].gain == 1.5
    with pytest.raises(OptionError, match="not raw"):
        larun.MasterBias.combine([CCDData(DATA, unit="electron")] * 3)


@pytest.mark.parametrize("kind", ["bool", "ccd of bool", "ccd mask", "nddata", "int"])
def test_bad_pixels_in_every_form(kind):
    mask = np.zeros((40, 44), bool)
    mask[5, 6] = mask[39, 43] = True
    given = {
        "bool": mask,
        "ccd of bool": CCDData(mask, unit=""),
        "ccd mask": CCDData(np.full(mask.shape, 7.0), unit="adu", mask=mask),
        "nddata": NDData(np.zeros(mask.shape), mask=mask),
        "int": mask.astype(np.uint64) << np.uint64(40),
    }[kind]
    bias = larun.MasterBias.combine(raw_ccds(), options=larun.BuildOptions(bad_pixels=given))
    assert (bias.flags[mask] & fl.BAD).all()
    frame = larun.Frame.from_arrays(raw_ccds(1)[0], gain=1.5, read_noise=6.0)
    made = frame.calibrate(without=("bias", "dark", "flat"), bad_pixels=given)
    np.testing.assert_array_equal((made.flags & fl.BAD) != 0, mask)


def test_an_image_is_no_mask():
    with pytest.raises(OptionError, match="bad_pixels: a CCDData in adu without mask is an image"):
        larun.BuildOptions(bad_pixels=raw_ccds(1)[0])


def test_arithmetic_with_ccddata():
    image = larun.Image.from_arrays(DATA, variance=np.full(SHAPE, 4.0), unit="electron")
    mask = np.zeros(SHAPE, bool)
    mask[1, 1] = True
    ccd = ccd_of(uncertainty=StdDevUncertainty(np.full(SHAPE, 3.0)), mask=mask)
    twin = larun.Image.from_ccddata(ccd)
    for with_ccd, with_image in (
        (image + ccd, image + twin),
        (image - ccd, image - twin),
        (image * ccd, image * twin),
        (image / ccd, image / twin),
        (image + NDData(DATA, unit="electron"), image + larun.Image.from_arrays(DATA, unit="electron")),
    ):
        assert with_ccd.data.tobytes() == with_image.data.tobytes()
        assert with_ccd.flags.tobytes() == with_image.flags.tobytes()
        np.testing.assert_array_equal(with_ccd.variance, with_image.variance)
        assert with_ccd.provenance.id == with_image.provenance.id
        assert len(with_ccd.provenance.roots()) == 2
    assert (image - ccd).variance[0, 0] == 13.0
    with pytest.raises(UnitMismatch, match="electron and adu"):
        image - CCDData(DATA, unit="adu")
    with pytest.raises(OptionError, match="with a unit"):
        image - NDData(DATA)
