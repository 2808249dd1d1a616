"""What a stack says of time, exposure and light: that of all of its frames, on the scale of its reference."""

import math

import numpy as np
import pytest

import larun
from larun.model.time.site import Site
from tests.model.aligning.test_align import exposure, field, turn

INSIDE = larun.StackOptions(footprint="reference")
SITE = (343.36, -24.63, 2635.0)


class Elsewhere(larun.Frame):
    """A camera that alone knows where it stands, and writes other cards than most."""

    keywords = {
        "exposure": ("SHUTOPEN",),
        "filter": ("WHEEL",),
        "date": ("UTBEG",),
        "ra": ("ALPHA",),
        "dec": ("DELTA",),
    }
    site = Site.of(SITE)


def dated(frame, minute, seconds=60.0, airmass=1.2):
    cards = frame.header
    cards["DATE-OBS"] = f"2024-05-13T05:{minute:02d}:00"
    cards["MJD-OBS"] = 60443.0  # another exposure's: must not survive
    cards["EXPTIME"], cards["AIRMASS"], cards["FILTER"] = seconds, airmass, "V"
    cards["RA"], cards["DEC"] = "12:34:56", "-20:00:00"
    return frame._replace(header=cards)


@pytest.fixture(scope="module")
def frames():
    stars = field()
    shots = [
        exposure(stars, matrix=turn(0.2 * k), offset=(3.0 * k, -2.0 * k), fwhm=2.6 + 0.3 * k, seed=60 + k)
        for k in range(4)
    ]
    return [dated(frame, 3 * k, 60.0, 1.2 + 0.1 * k) for k, frame in enumerate(shots)]


def test_times_are_those_of_all_frames(frames):
    made = larun.Stack.combine(frames, reference=frames[1], options=INSIDE)
    notes = {item["frame"]: item["weight"] for item in made.provenance.step.fitted["frames"]}
    weights = np.array([notes[frame.provenance.id] for frame in frames])
    assert np.ptp(weights) > 0.3 * weights.mean()
    middle = np.sum(weights * (180.0 * np.arange(4) + 30.0)) / weights.sum()
    time = made.time
    assert (time.mid - frames[0].time.start).sec == pytest.approx(middle, abs=2e-3)
    assert time.start.isot == "2024-05-13T05:00:00.000"
    assert time.end.isot == "2024-05-13T05:10:00.000"
    assert time.doubts == ()
    bjd = [frame.time.bjd_tdb() for frame in frames]
    assert time.bjd_tdb() == pytest.approx(np.sum(weights * bjd) / weights.sum(), abs=2e-3 / 86400)
    assert time.exposure == made.exposure == 60.0
    header = made.header
    assert (header["NCOMBINE"], header["TEXPTIME"]) == (4, 240.0)
    assert header["AIRMASS"] == pytest.approx(np.sum(weights * (1.2 + 0.1 * np.arange(4))) / weights.sum(), abs=1e-5)
    assert "MJD-OBS" not in header
    assert made.filter == "V"


def test_they_are_read_back_from_the_file(frames, tmp_path):
    made = larun.Stack.combine(frames, reference=frames[1], options=INSIDE)
    again = larun.Stack.read(made.write(tmp_path / "stack.fits"))
    assert again.time == made.time
    assert again.crop((10, 90), (5, 90)).time.mid == made.time.mid


def test_a_frame_whose_time_is_not_known_leaves_the_stack_without(frames):
    cards = frames[2].header
    for name in ("DATE-OBS", "MJD-OBS", "EXPTIME"):
        del cards[name]
    made = larun.Stack.combine([*frames[:2], frames[2]._replace(header=cards)], options=INSIDE, reference=frames[0])
    assert made.time.mid is None
    assert made.time.start is None
    assert not {"DATE-OBS", "DATE-AVG", "DATE-END", "TEXPTIME"} & set(made.header)
    assert made.exposure == 60.0


def test_what_only_the_camera_knows_goes_along(frames):
    shots = []
    for k, frame in enumerate(frames[:2]):
        header = frame.header
        for old, new in (("EXPTIME", "SHUTOPEN"), ("FILTER", "WHEEL"), ("DATE-OBS", "UTBEG")):
            header[new] = header.pop(old)
        header["ALPHA"], header["DELTA"] = header.pop("RA"), header.pop("DEC")
        del header["MJD-OBS"]
        made = Elsewhere.from_arrays(
            frame.data,
            variance=frame.variance,
            header=header,
            unit="electron",
            gain=1.0,
            read_noise=8.0,
            saturation=1e6,
        )
        assert made.time.site is not None, k
        shots.append(made)
    made = larun.Stack.combine(shots, reference=shots[0], options=INSIDE)
    assert made.filter == "V"
    assert made.exposure == 60.0
    site = made.time.site
    assert (site.longitude % 360, site.latitude, site.height) == pytest.approx(SITE)
    assert made.time.pointing == pytest.approx(shots[0].time.pointing, abs=1e-6)
    assert "UTBEG" not in made.header
    assert made.time.bjd_tdb() == pytest.approx(np.mean([shot.time.bjd_tdb() for shot in shots]), abs=1e-3)


def test_magnitudes_are_those_of_the_reference(frames):
    """Frames of other transparency and exposure are brought to its light: a star has the flux that it has there."""
    cards = frames[1].header
    cards["EXPTIME"] = 120.0
    long = frames[1]._replace(
        data=(frames[1].data * 2.3).astype(np.float32),
        variance=(frames[1].variance * 2.3).astype(np.float32),
        header=cards,
    )
    shots = [frames[0], long, *frames[2:]]
    for reference, seconds in ((frames[0], 60.0), (long, 120.0)):
        made = larun.Stack.combine(shots, reference=reference, options=INSIDE)
        assert made.exposure == seconds
        assert made.header["TEXPTIME"] == 300.0
        there = reference.detect().photometer(radii=(6.0,), unit="pixel")
        good = np.asarray(there.table["snr"]) > 60
        places = np.column_stack([np.asarray(there.table[name])[good] for name in ("x", "y")])
        one, two = (image.photometer(places, radii=(6.0,), unit="pixel").table for image in (reference, made))
        ratio = np.asarray(two["aperture_flux_1"]) / np.asarray(one["aperture_flux_1"])
        error = np.asarray(one["aperture_flux_error_1"]) / np.asarray(one["aperture_flux_1"])
        assert good.sum() >= 8
        mean = np.average(ratio, weights=error**-2)
        assert abs(2.5 * math.log10(mean)) < 3 * 1.0857 * math.sqrt(1 / np.sum(error**-2)) + 2e-3


def test_the_gain_makes_the_poisson_noise_of_the_stack(frames):
    """Variance of a bright star's pixels beyond that of the sky is its light over GAIN."""
    scaled = [
        frame._replace(data=(frame.data * f).astype(np.float32), variance=(frame.variance * f).astype(np.float32))
        for frame, f in zip(frames, (1.0, 0.5, 2.0, 1.3), strict=True)
    ]
    made = larun.Stack.combine(scaled, reference=scaled[0], options=INSIDE, method="mean")
    y, x = np.unravel_index(np.argmax(np.where(made.flags == 0, made.data, 0)), made.shape)
    box = (slice(y - 4, y + 5), slice(x - 4, x + 5))
    sky, quiet = np.median(made.data), np.median(made.variance)
    light, noise = np.sum(made.data[box] - sky), np.sum(made.variance[box] - quiet)
    acf = float(np.sum(made.noise_acf))  # interpolation takes noise of pixels, and gives it to their neighbours
    assert light / (noise * acf) == pytest.approx(made.header["GAIN"], rel=0.1)
