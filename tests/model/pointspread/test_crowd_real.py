"""PSF photometry of a real crowded field, towards the bulge of the Galaxy."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

import larun
from larun.model.aligning.transforms import align_by
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


def column(catalog, name):
    return np.asarray(catalog[name].value, float)


@pytest.mark.slow
def test_the_same_stars_on_two_frames_agree_within_their_errors():
    frames = [bulge(number, slice(0, 512), slice(0, 512)) for number in ("0001", "0124")]
    found = [frame.detect().photometer(method="psf", options={"crowded": True}) for frame in frames]
    for deep in found:
        assert 1 < deep.meta["psf_noise_ratio"] < 1.35  # stars that nobody can tell apart: 1.1 is not reached
        assert 0 < deep.meta["psf_model_error"] < 0.02
        sure = column(deep, "flux_psf") > 5 * column(deep, "flux_psf_error")
        assert sure.sum() > 3 * deep.meta["psf_stars"]
    one, other = (
        {name: column(deep, name) for name in ("x_psf", "y_psf", "flux_psf", "flux_psf_error")} for deep in found
    )
    x, y = align_by("stars", frames[1], frames[0], "affine").mapping.at(one["x_psf"], one["y_psf"])
    distance, nearest = cKDTree(np.column_stack([other["x_psf"], other["y_psf"]])).query(np.column_stack([x, y]))
    flags = np.asarray(found[0]["psf_flags"]) | np.asarray(found[1]["psf_flags"])[nearest]
    same = (distance < 1.0) & ((flags & int(larun.flags.UNUSABLE)) == 0)
    same &= (one["flux_psf"] > 0) & (other["flux_psf"][nearest] > 0)
    flux, error = one["flux_psf"][same], one["flux_psf_error"][same]
    again, its_error = other["flux_psf"][nearest[same]], other["flux_psf_error"][nearest[same]]
    snr = flux / error
    ratio = np.median((again / flux)[snr > 20])
    pull = (again - ratio * flux) / np.hypot(its_error, ratio * error)
    # of the faintest, errors are rather too large
    for low, high in ((5, 1e9), (5, 10), (10, 20), (20, 50), (50, 100), (100, 1e9)):
        least = 0.8 if high == 10 else 0.9
        own = pull[(snr > low) & (snr < high)]
        assert own.size > 50
        assert least - 1 / np.sqrt(own.size) < np.subtract(*np.quantile(own, (0.8413, 0.1587))) / 2 < 1.2
        assert abs(np.median(own)) < 0.5
    assert np.mean(np.abs(pull[snr > 5]) > 5) < 0.01
