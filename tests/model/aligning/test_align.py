"""Frames on the pixels of others: where stars come to lie, what they and their errors become, and what is refused."""

import math
import warnings

import numpy as np
import pytest
from astropy.wcs import WCS

import larun
from larun import flags as fl
from larun.algorithms.resample import ResampleOptions
from larun.errors import AlreadyApplied, LarunWarning, NotAligned, OptionError
from larun.model.aligning import transforms
from larun.model.aligning.regridding import regridded
from larun.model.aligning.transforms import align_by
from larun.model.planes import Shared
from tests.conftest import real_data

SHAPE = (220, 250)
SKY, NOISE = 200.0, 6.0


class Tilted(larun.Frame):
    """A camera of the user's own."""


def field(seed=1, count=120):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-120, SHAPE[1] + 120, count), rng.uniform(-120, SHAPE[0] + 120, count)
    return x, y, 10 ** rng.uniform(3.3, 4.8, count)


def exposure(
    stars, *, matrix=((1, 0), (0, 1)), offset=(0, 0), fwhm=3.0, seed=2, header=None, cls=larun.Frame, noise=NOISE
):
    """A calibrated frame that shows position p of the field at ``matrix @ p + offset``."""
    x, y, flux = stars
    at = np.asarray(matrix) @ np.stack([x, y]) + np.asarray(offset)[:, None]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.full(SHAPE, SKY)
    sigma = fwhm / 2.3548
    for sx, sy, f in zip(*at, flux, strict=True):
        if -20 < sx < SHAPE[1] + 20 and -20 < sy < SHAPE[0] + 20:
            image += f / (2 * math.pi * sigma**2) * np.exp(-((columns - sx) ** 2 + (rows - sy) ** 2) / 2 / sigma**2)
    variance = image + noise**2
    data = np.random.default_rng(seed).normal(image, np.sqrt(variance))
    return cls.from_arrays(
        data, variance=variance, unit="electron", gain=1.0, read_noise=noise, saturation=1e6, header=header or {}
    )


def turn(degrees, scale=1.0, mirror=1):
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return np.array([[c, -s], [s, c]]) @ np.diag([1, mirror])


TRANSFORMS = {
    "shift": (turn(0), (11.3, -7.8)),
    "far": (turn(0.2), (-101.5, 70.2)),
    "turned by 5 degrees": (turn(5), (12.0, -9.0)),
    "upside down": (turn(180), (SHAPE[1] - 8.0, SHAPE[0] - 3.0)),
    "mirrored": (turn(2, mirror=-1), (3.0, SHAPE[0] - 10.0)),
    "another scale": (turn(1, 1.2), (-20.0, -16.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_stars_come_to_lie_on_those_of_the_reference_with_their_flux_and_error(name):
    stars = field()
    matrix, offset = TRANSFORMS[name]
    reference = exposure(stars)
    moved = exposure(stars, matrix=matrix, offset=offset, seed=3, fwhm=3.0 * math.sqrt(abs(np.linalg.det(matrix))))
    aligned = moved.align_to(reference)
    assert aligned.shape == reference.shape
    inside = (aligned.flags & (fl.NO_DATA | fl.EDGE)) == 0
    x, y, flux = stars
    use = (flux > 8000) & (x > 12) & (x < SHAPE[1] - 13) & (y > 12) & (y < SHAPE[0] - 13)
    near = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(near, 99)
    use &= near.min(axis=1) > 14
    box = [
        inside[int(b) - 8 : int(b) + 10, int(a) - 8 : int(a) + 10].all() for a, b in zip(x[use], y[use], strict=True)
    ]
    use[np.flatnonzero(use)] = box
    assert use.sum() >= 3
    found = aligned.detect(fwhm=3.0)
    table = found.table
    away = np.hypot(np.asarray(table["x"])[:, None] - x[use], np.asarray(table["y"])[:, None] - y[use])
    assert np.max(away.min(axis=0)) < 0.12
    assert np.median(away.min(axis=0)) < 0.05
    measured = aligned.photometer(np.column_stack([x[use], y[use]]), radii=(5.0,), unit="pixel").table
    pull = (np.asarray(measured["aperture_flux_1"]) - flux[use]) / np.asarray(measured["aperture_flux_error_1"])
    loss = flux[use] * 0.002 / np.asarray(measured["aperture_flux_error_1"])  # light beyond the aperture
    assert np.all(np.abs(pull) < 4.5 + loss)
    fitted = aligned.provenance.step.fitted
    assert fitted["parity"] == (-1 if name == "mirrored" else 1)
    assert max(fitted["rms"]) < 0.25
    assert fitted["scale"] == pytest.approx(math.sqrt(abs(np.linalg.det(matrix))), rel=1e-3)


def test_type_header_and_wcs_become_what_they_should():
    stars = field()
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 100.0, "CRPIX2": 90.0}
    wcs |= {"CD1_1": -2e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 2e-4}
    reference = exposure(stars, header=wcs | {"OBJECT": "reference"})
    moved = exposure(
        stars, offset=(5.5, 2.25), seed=3, header=wcs | {"CRVAL1": 151.0, "OBJECT": "mine", "EXPTIME": 30.0}, cls=Tilted
    )
    aligned = moved.align_to(reference)
    assert type(aligned) is Tilted
    assert aligned.header["OBJECT"] == "mine"
    assert aligned.exposure == 30.0
    assert aligned.wcs.to_header_string() == WCS(reference.header).to_header_string()
    assert aligned.noise_acf.shape == (7, 7)
    assert [parent.role for parent in aligned.provenance.parents] == ["self", "reference"]
    assert aligned.detector.amplifiers[0].data == (0, SHAPE[0], 0, SHAPE[1])


def test_by_wcs_a_frame_lies_where_its_header_says():
    stars = field()
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 60.0, "CRPIX1": 100.0, "CRPIX2": 90.0}
    wcs |= {"CD1_1": -2e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 2e-4}
    reference = exposure(stars, header=wcs)
    moved = exposure(stars, offset=(15.0, -20.0), seed=3, header=wcs | {"CRPIX1": 115.0, "CRPIX2": 70.0})
    aligned = moved.align_to(reference, method="wcs")
    assert np.array_equal(aligned.data[25:-25, 25:-25], moved.data[5:-45, 40:-10])  # whole pixels: every bit
    with pytest.raises(NotAligned, match="has no WCS"):
        exposure(stars).align_to(reference, method="wcs")


def test_errors_of_apertures_hold_on_an_aligned_frame():
    # empty places of one aligned noise image: their scatter is what each of them reports
    stars = field()
    reference = exposure(stars)
    moved = exposure(stars, matrix=turn(5), offset=(12.0, -9.0), seed=3)
    aligned = moved.align_to(reference)
    noise = larun.Frame.from_arrays(
        np.random.default_rng(5).normal(0, 10, SHAPE),
        variance=np.full(SHAPE, 100.0),
        unit="electron",
        gain=1,
        read_noise=10,
    )
    alignment = align_by("stars", moved, reference, "affine")
    empty = noise._replace(**regridded(noise, reference, alignment, ResampleOptions()))
    y, x = (item.ravel() for item in np.mgrid[32:190:13, 32:220:13])
    for radius in (2.0, 4.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # an empty field has no stars to measure
            got = empty.photometer(np.column_stack([x, y]), radii=(radius,), unit="pixel", sky="none").table
        good = np.asarray(got["aperture_flags_1"]) == 0
        pull = (np.asarray(got["aperture_flux_1"]) / np.asarray(got["aperture_flux_error_1"]))[good]
        assert len(pull) > 100
        assert np.std(pull) == pytest.approx(1, abs=3.2 / math.sqrt(2 * len(pull)))
    assert aligned.noise_acf[3, 4] > 0.02


def test_the_noise_of_a_master_is_shared_by_what_was_moved_alike():
    stars = field()
    plane = np.full(SHAPE, 4.0, np.float32)
    reference = exposure(stars)
    frames = [exposure(stars, offset=offset, seed=7) for offset in ((0.2, 0.1), (0.3, -0.2), (6.1, 3.0))]
    aligned = [f._replace(shared=(Shared("abc", plane),)).align_to(reference) for f in frames]
    names = [a.shared[0].master for a in aligned]
    assert names == ["abc", "abc", "abc@+6+3"]
    assert np.all(aligned[0].shared[0].variance[40:-40, 40:-40] < 4.0)


def test_a_product_is_read_back_cropped_and_made_again(tmp_path):
    stars = field()
    reference = exposure(stars)
    moved = exposure(stars, matrix=turn(4), offset=(9.0, 1.0), seed=3)
    aligned = moved.align_to(reference)
    again = larun.Frame.read(aligned.write(tmp_path / "aligned.fits"))
    assert again.identical(aligned)
    x, y = 120.0, 100.0
    one = aligned.photometer([[x, y]], radii=(3.0,), unit="pixel", sky="none").table
    two = again.crop((40, 200), (30, 180)).photometer([[x - 40, y - 30]], radii=(3.0,), unit="pixel", sky="none").table
    assert one["aperture_flux_error_1"][0].value == pytest.approx(two["aperture_flux_error_1"][0].value, rel=1e-12)


def test_what_shows_another_field_is_refused():
    reference = exposure(field(1))
    with pytest.raises(NotAligned, match="no stars in common"):
        exposure(field(9), seed=4).align_to(reference)
    few = field(1)
    empty = exposure(tuple(item[:0] for item in few), seed=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        with pytest.raises(NotAligned, match="4 are needed"):
            empty.align_to(reference)
        with pytest.raises(NotAligned, match="4 are needed"):
            reference.align_to(empty)
    with pytest.raises(NotAligned, match="no structure in common"):
        empty.align_to(reference, method="phase")


def test_a_frame_is_resampled_only_once():
    stars = field()
    reference = exposure(stars)
    aligned = exposure(stars, offset=(3.3, 1.0), seed=3).align_to(reference)
    with pytest.raises(AlreadyApplied, match="resampled before"):
        aligned.align_to(reference)


def test_senseless_options_are_refused():
    reference = exposure(field())
    for wrong in ({"method": "magic"}, {"transform": "elastic"}, {"kernel": "cubic"}, {"conserve": "mass"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            reference.align_to(reference, **wrong)


REAL = {
    "kb13475": ("0100", ("0001", "0016", "0056", "0103", "0157", "0173")),
    "tres1": ("125", ("020", "075", "180", "225")),
}


@pytest.mark.parametrize("name", REAL)
def test_real_series_align_without_a_wrong_transform(name):
    middle, others = REAL[name]

    def frame(number):
        if name == "tres1":
            raw = larun.Frame.read(real_data("tres1", f"tres1-{number}.fit.fz"), read_noise=9.0)
        else:
            raw = larun.Frame.read(real_data("kb13475", f"AKB13475I{number}.fits.fz"))
        return raw.calibrate(without=("bias", "dark", "flat"))

    reference = frame(middle)
    for number in others:
        fitted = frame(number).align_to(reference).provenance.step.fitted
        assert fitted["rms_bright"] < 0.1, number
        assert abs(fitted["rotation"]) < 0.1
        assert fitted["scale"] == pytest.approx(1, abs=1e-3)


def test_nickel_frames_of_different_fields_are_refused():
    frames = [
        larun.Frame.read(real_data("nickel", f"{name}.fits.fz")).calibrate(without=("bias", "flat", "dark"))
        for name in ("d1059", "d1074", "d1052")
    ]
    for one, two in ((0, 1), (1, 2), (2, 0)):
        with pytest.raises(NotAligned, match=r"in common|are needed"):
            frames[one].align_to(frames[two])


def test_the_stars_of_a_reference_are_searched_once_for_a_series(monkeypatch):
    stars = field()
    frames = [exposure(stars, offset=(3.0 * k, k), seed=90 + k) for k in range(4)]
    searched = []
    search = transforms.quick_stars
    monkeypatch.setattr(transforms, "quick_stars", lambda data, flags: searched.append(data) or search(data, flags))
    made = [frame.align_to(frames[0]) for frame in frames[1:]]
    assert sum(data is frames[0].data for data in searched) == 1
    assert len(searched) == 4
    alone = frames[2].align_to(frames[1])
    assert sum(data is frames[1].data for data in searched) == 2
    assert frames[2].align_to(frames[0]).identical(made[1])
    assert alone.provenance.step.fitted["offset"] != made[1].provenance.step.fitted["offset"]
