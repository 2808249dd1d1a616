"""Pixels and sky stay together through trim, crop and bin; positions survive FITS and DS9."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import larun
from larun.detector import Detector, Section
from larun.errors import CatalogError, OptionError
from larun.io.regions import read_regions
from larun.provenance import array_from_canonical

SIP = {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "CRVAL1": 150.1,
    "CRVAL2": 62.2,
    "CRPIX1": 70.5,
    "CRPIX2": 61.25,
    "CD1_1": -1.7e-4,
    "CD1_2": 3e-6,
    "CD2_1": 2e-6,
    "CD2_2": 1.7e-4,
    "A_ORDER": 3,
    "B_ORDER": 3,
    "A_2_0": 1e-3,
    "A_1_1": -3e-6,
    "A_0_3": 4e-8,
    "B_0_2": 6e-4,
    "B_2_1": -2e-8,
    "B_1_1": 5e-6,
    "RADESYS": "ICRS",
}
SECTIONS = {
    "BIASSEC": "[129:144,1:128]",
    "TRIMSEC": "[9:128,5:124]",
    "DATASEC": "[9:128,5:124]",
    "CCDSEC": "[1:120,1:120]",
    "DETSEC": "[1:120,1:120]",
    "AMPSECA": "[9:128,5:124]",
    "BIASSECB": "[129:144,1:128]",
    "PRESECA": "[1:8,1:128]",
    "LTV1": 8.0,
    "LTM1_1": 1.0,
    "DTV2": 4.0,
}


def sky(frame, x, y):
    ra, dec = frame.wcs.all_pix2world(np.atleast_1d(x), np.atleast_1d(y), 0)
    return ra, dec


def separation(one, two):
    """Milliarcseconds."""
    dra = (one[0] - two[0]) * np.cos(np.radians(one[1]))
    return np.hypot(dra, one[1] - two[1]) * 3.6e6


def raw_frame(tmp_path):
    path = tmp_path / "sip.fits"
    header = fits.Header(SECTIONS | SIP | {"GAIN": 1.5, "RDNOISE": 5.0, "INSTRUME": "none"})
    fits.PrimaryHDU(np.full((128, 144), 1000, np.uint16), header).writeto(path)
    return larun.Frame.read(path)


def test_acceptance_20_trim_crop_and_bin_keep_the_sky_of_a_sip_image(tmp_path):
    raw = raw_frame(tmp_path)
    x, y = np.meshgrid([20.0, 60.3, 110.7], [15.0, 55.5, 118.2])
    x, y = x.ravel(), y.ravel()
    truth = WCS(fits.Header(SIP)).all_pix2world(x, y, 0)
    assert separation(sky(raw, x, y), truth).max() < 1e-3
    linear = WCS(fits.Header(SIP)).wcs_pix2world(x, y, 0)
    assert separation(linear, truth).max() > 1000  # the distortion matters here
    trimmed = raw.calibrate(without=("bias", "dark", "flat"))
    assert trimmed.shape == (120, 120)
    assert separation(sky(trimmed, x - 8, y - 4), truth).max() < 1
    cropped = trimmed.crop((5, 118), (7, 116))
    assert separation(sky(cropped, x - 13, y - 11), truth).max() < 1
    for factor in (2, 3):
        binned = cropped.bin(factor)
        bx, by = ((v - 0.5 * (factor - 1)) / factor for v in (x - 13, y - 11))
        assert separation(sky(binned, bx, by), truth).max() < 1
        twice = trimmed.bin(factor).crop((2, 30), (3, 31))
        bx, by = ((v - 0.5 * (factor - 1)) / factor for v in (x - 8, y - 4))
        assert separation(sky(twice, bx - 2, by - 3), truth).max() < 1


def test_acceptance_20_sections_that_do_not_fit_are_dropped(tmp_path):
    raw = raw_frame(tmp_path)
    assert "TRIMSEC" in raw.header
    trimmed = raw.calibrate(without=("bias", "dark", "flat"))
    plain = larun.Frame.from_arrays(np.ones((40, 40)), header=SECTIONS)  # already trimmed, its cards are not
    for made in (trimmed, trimmed.bin(2), raw.crop((0, 100), (0, 100)), plain.bin(2)):
        assert not set(SECTIONS) & set(made.header)
    path = raw.calibrate(without=("bias", "dark", "flat")).write(tmp_path / "out.fits")
    with fits.open(path) as hdus:
        assert not any(set(SECTIONS) & set(hdu.header) for hdu in hdus)


def test_acceptance_20_the_inverse_of_sip_survives_trim_crop_and_bin_and_a_file(tmp_path):
    """AP and BP, from the sky to pixels without iteration, as fast readers of headers use them."""
    inverse = {"AP_ORDER": 2, "BP_ORDER": 2, "AP_1_0": 2e-5, "AP_2_0": -1e-3, "BP_0_2": -6e-4, "BP_1_1": 3e-6}
    header = fits.Header(SECTIONS | SIP | inverse | {"GAIN": 1.5, "RDNOISE": 5.0})
    fits.PrimaryHDU(np.full((128, 144), 1000, np.uint16), header).writeto(tmp_path / "raw.fits")
    raw = larun.Frame.read(tmp_path / "raw.fits")
    x, y = np.array([20.0, 60.3, 110.7]), np.array([15.0, 55.5, 118.2])
    place = sky(raw, x, y)
    made = raw.calibrate(without=("bias", "dark", "flat")).crop((5, 118), (7, 116)).bin(2)
    back = larun.Frame.read(made.write(tmp_path / "a.fits"))
    bx, by = (x - 13 - 0.5) / 2, (y - 11 - 0.5) / 2
    for frame in (made, back):
        assert separation(sky(frame, bx, by), place).max() < 1
        focal = [
            before.wcs.sip_foc2pix(before.wcs.sip_pix2foc(px, py, 0)[0], 0 * px, 0)
            for before, px, py in ((raw, x, y), (frame, bx, by))
        ]
        scaled = [focal[0][0] - (raw.wcs.wcs.crpix[0] - 1), 2 * (focal[1][0] - (frame.wcs.wcs.crpix[0] - 1))]
        assert np.abs(scaled[0] - scaled[1]).max() < 1e-6


def test_acceptance_20_tpv_distortion_survives_too(tmp_path):
    """PV terms count in degrees from the reference point: neither trim, crop nor bin may touch them."""
    cards = {k: v for k, v in SIP.items() if not k.startswith(("A_", "B_"))} | {
        "CTYPE1": "RA---TPV",
        "CTYPE2": "DEC--TPV",
    }
    cards |= {"PV1_1": 1.0, "PV1_4": 0.9, "PV1_7": 30.0, "PV2_1": 1.0, "PV2_4": -0.7, "PV2_7": 12.0}
    header = fits.Header(SECTIONS | cards | {"GAIN": 1.5, "RDNOISE": 5.0})
    fits.PrimaryHDU(np.full((128, 144), 1000, np.uint16), header).writeto(tmp_path / "raw.fits")
    raw = larun.Frame.read(tmp_path / "raw.fits")
    x, y = np.array([20.0, 60.3, 110.7]), np.array([15.0, 55.5, 118.2])
    place = sky(raw, x, y)
    assert separation(WCS(fits.Header(cards | {"PV1_4": 0.0, "PV2_4": 0.0})).all_pix2world(x, y, 0), place).max() > 200
    made = raw.calibrate(without=("bias", "dark", "flat")).crop((5, 118), (7, 116)).bin(3)
    assert separation(sky(made, (x - 13 - 1) / 3, (y - 11 - 1) / 3), place).max() < 1
    back = larun.Frame.read(made.write(tmp_path / "a.fits"))
    assert separation(sky(back, (x - 13 - 1) / 3, (y - 11 - 1) / 3), place).max() < 1


def test_a_wcs_of_pc_and_cdelt_bins_too():
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -40.0, "CRPIX1": 12.0, "CRPIX2": 9.0}
    cards |= {"CDELT1": -2e-4, "CDELT2": 2e-4, "PC1_1": 0.9, "PC1_2": -0.43, "PC2_1": 0.43, "PC2_2": 0.9}
    frame = larun.Frame.from_arrays(np.ones((40, 40)), header=cards)
    truth = sky(frame, [3.0, 30.5], [21.0, 7.5])
    binned = frame.bin(4)
    moved = sky(binned, (np.array([3.0, 30.5]) - 1.5) / 4, (np.array([21.0, 7.5]) - 1.5) / 4)
    assert separation(moved, truth).max() < 1e-3


def test_acceptance_19_a_position_goes_through_fits_and_regions_and_back(tmp_path):
    rng = np.random.default_rng(19)
    x, y = rng.uniform(10, 90, 12), rng.uniform(10, 90, 12)
    yy, xx = np.indices((100, 100))
    image = 100 + sum(3000 * np.exp(-((xx - a) ** 2 + (yy - b) ** 2) / (2 * 1.4**2)) for a, b in zip(x, y, strict=True))
    frame = larun.Frame.from_arrays(image, variance=image, unit="electron", header=SIP)
    back = larun.Frame.read(frame.write(tmp_path / "a.fits"))
    placed = back.photometer(np.column_stack([x, y]), (4.0,), unit="pixel")
    for suffix in ("fits", "ecsv", "parquet", "vot"):
        catalog = larun.SourceCatalog.read(placed.write(tmp_path / f"stars.{suffix}"))
        catalog.write_regions(tmp_path / f"{suffix}.reg")
        places = np.array([region[:3] for region in read_regions(tmp_path / f"{suffix}.reg")])
        assert np.abs(places - np.column_stack([x, y, np.full(12, 5.0)])).max() < 1e-6
    text = (tmp_path / "fits.reg").read_text()
    assert f"circle({float(x[0]) + 1!r}," in text  # DS9 counts from 1
    # measured at the places of the file, in pixels or on the sky, and of the regions package
    from regions import Regions

    for coordinates in ("image", "icrs", "fk5", "galactic"):
        path = tmp_path / f"{coordinates}.reg"
        placed.write_regions(path, coordinates=coordinates)
        for positions in (path, str(path), Regions.read(path, format="ds9")):
            again = frame.photometer(positions, (4.0,), unit="pixel")
            assert np.abs(again["x"].value - x).max() < 1e-6
            assert np.abs(again["y"].value - y).max() < 1e-6
    # the sky and back
    from astropy.coordinates import SkyCoord

    where = SkyCoord(catalog["ra"], catalog["dec"])
    again = frame.photometer(where, (4.0,), unit="pixel")
    assert np.abs(again["x"].value - x).max() < 1e-6
    # a catalogue or a table serves too; what was measured is in the record, whatever it came from
    for positions in (placed, placed.table):
        other = frame.photometer(positions, (4.0,), unit="pixel")
        assert np.abs(other["x"].value - x).max() == 0
        recorded = array_from_canonical(other.provenance.step.parameters["positions"])
        assert np.array_equal(recorded, np.column_stack([x, y]))
    roles = [parent.role for parent in frame.photometer(placed).provenance.parents]
    assert roles == ["self", "positions"]
    np.testing.assert_allclose(again["aperture_flux_1"].value, placed["aperture_flux_1"].value, rtol=1e-6)


def test_a_star_at_a_known_place_is_found_there(tmp_path):
    """The first pixel's centre is (0, 0): a star put at 20.3, 31.8 in FITS (1-based 21.3, 32.8) is found there."""
    yy, xx = np.indices((64, 64))
    image = 200 + 20000 * np.exp(-((xx - 20.3) ** 2 + (yy - 31.8) ** 2) / (2 * 1.6**2))
    fits.PrimaryHDU(image.astype(np.float32), fits.Header({"GAIN": 1.0, "RDNOISE": 3.0})).writeto(tmp_path / "a.fits")
    frame = larun.Frame.read(tmp_path / "a.fits").calibrate(without=("bias", "dark", "flat"))
    catalog = frame.detect(fwhm=1.6 * 2.3548)
    assert abs(catalog["x"][0].value - 20.3) < 0.01
    assert abs(catalog["y"][0].value - 31.8) < 0.01
    assert "ra" not in catalog.columns
    from astropy.coordinates import SkyCoord

    with pytest.raises(CatalogError, match="no WCS"):
        frame.photometer(SkyCoord(1, 2, unit="deg"))


@pytest.mark.parametrize("window", [((0, 0), (0, 5)), ((-1, 5), (0, 5)), ((0, 5), (3, 99)), ((5, 2), (0, 5))])
def test_a_window_outside_raises(window):
    with pytest.raises(OptionError, match="crop x="):
        larun.Frame.from_arrays(np.ones((8, 9))).crop(*window)


def test_a_bin_factor_that_does_not_fit_raises(tmp_path):
    frame = larun.Frame.from_arrays(np.ones((8, 9)))
    for factor in (0, -2, 9):
        with pytest.raises(OptionError, match="bin factor"):
            frame.bin(factor)
    with pytest.raises(OptionError, match="overscan"):
        raw_frame(tmp_path).bin(2)
    assert frame.bin(1).data.tobytes() == frame.data.tobytes()


def test_the_detector_follows():
    detector = Detector.single(
        (40, 60),
        data=Section(0, 40, 0, 50),
        overscan=Section(0, 40, 50, 60),
        gain=1.0,
        read_noise=3.0,
        saturation=100.0,
    )
    frame = larun.Frame.from_arrays(np.ones((40, 60)), detector=detector)
    cut = frame.crop((10, 60), (5, 35)).detector.amplifiers[0]
    assert (cut.data, cut.overscan) == ((0, 30, 0, 40), (0, 30, 40, 50))
    trimmed = frame.calibrate(without=("bias", "dark", "flat"))
    binned = trimmed.bin(2).detector.amplifiers[0]
    assert binned.data == (0, 20, 0, 25)
    assert binned.read_noise == 6.0
    assert trimmed.bin(2).raw_detector.amplifiers[0].gain == 1.0


def test_a_matrix_without_steps_bins_too():
    # CDELT is 1 by the standard where there is none.
    cards = {k: SIP[k] for k in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")}
    cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "PC1_1": -1e-4, "PC2_2": 1e-4}
    frame = larun.Frame.from_arrays(np.ones((20, 20)), header=cards)
    binned = frame.bin(2)
    at = frame.wcs.pixel_to_world(10.5, 6.5)
    assert at.separation(binned.wcs.pixel_to_world(5.0, 3.0)).mas < 1e-3


def test_coordinates_that_are_no_numbers_stay_as_they_are():
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": "unknown", "CRPIX2": 3.0, "CDELT1": "x"}
    frame = larun.Frame.from_arrays(np.ones((8, 8)), header=cards)
    for made in (frame.bin(2), frame.crop((1, 7), (1, 7))):
        assert made.header["CRPIX1"] == "unknown"


def test_a_keyword_that_only_begins_like_a_coordinate_stays(tmp_path):
    path = tmp_path / "raw.fits"
    cards = fits.Header({"BAYERPAT": "RGGB", "CDELT1U": "two", "CRPIX1L": 3.0, "CTYPE1": "RA---TAN", "CRPIX1": 2.0})
    fits.PrimaryHDU(np.ones((8, 8), np.uint16), cards).writeto(path)
    header = larun.Frame.read(path, channel="G1").header
    assert (header["CDELT1U"], header["CRPIX1L"], header["CRPIX1"]) == ("two", 3.0, 1.0)
