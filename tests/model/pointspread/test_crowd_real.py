"""PSF photometry of a real crowded field, towards the bulge of the Galaxy."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

import larun
from tests.conftest import real_data


def bulge(number, columns=slice(100, 356), rows=slice(100, 356)):
    """A part of a frame of KB13475, flat-fielded by its owners, in electrons."""
    path = real_data("kb13475", f"AKB13475I{number}.fits.fz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        frame = larun.Frame.read(path, SATURATE=60000).calibrate((), without=("bias", "dark", "flat"))
    return frame.crop((columns.start, columns.stop), (rows.start, rows.stop))


@pytest.mark.slow
def test_more_than_twice_the_stars_of_a_single_pass_in_the_bulge():
    frame = bulge("0100")
    sources = frame.detect()
    psf = frame.psf(sources)
    assert psf.converged
    deep = sources.photometer(method=psf, options={"crowded": True})
    sure = deep["flux_psf"].value > 5 * deep["flux_psf_error"].value
    assert sure.sum() >= 2 * len(sources)
    before = sources.photometer(method=psf)
    assert deep.meta["psf_noise_ratio"] < 0.8 * before.meta["psf_noise_ratio"]
    rest = deep.residual()
    whole = distance_transform_edt((frame.flags & larun.flags.UNUSABLE) == 0) > 10
    light = frame.data - rest.data
    assert np.std(rest.data[whole]) < 0.1 * np.std(frame.data[whole])
    # neighbouring pixels differ by the noise that is expected; what is smooth beyond it are stars that nobody can tell
    noise = np.sqrt(rest.background().variance + np.maximum(light, 0))
    apart = (rest.data[:, 1:] - rest.data[:, :-1]) / np.hypot(noise[:, 1:], noise[:, :-1])
    usual = whole[:, 1:] & (light[:, 1:] < 2000)
    scatter = 1.4826 * np.median(np.abs(apart[usual] - np.median(apart[usual])))
    assert 0.9 < scatter < 1.1
