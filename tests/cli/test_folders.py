"""Folders of frames as commands take them: raw ones are reduced first, without the masters that nobody has."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.cli.folders import calibrated_frames
from larun.errors import FileError, OptionError


@pytest.fixture
def raw(tmp_path, rng):
    folder = tmp_path / "raw"
    folder.mkdir()
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, "IMAGETYP": "Light Frame"})
    data = rng.normal(300, 10, (60, 70)).astype(np.uint16)
    fits.PrimaryHDU(data, header).writeto(folder / "light-1.fits")
    return folder


def test_masters_to_do_without_are_named_with_commas(raw, tmp_path):
    (found,) = calibrated_frames(raw, tmp_path / "out", (None, "bias,dark, flat"), flag_only=True)
    assert isinstance(larun.Frame.read(found), larun.Frame)
    assert calibrated_frames(tmp_path / "out" / "reduced", tmp_path, (None, ""), flag_only=True) == [found]


def test_what_nobody_has_is_said(raw, tmp_path, capsys):
    with pytest.raises(FileError, match="no science frame that could be calibrated"):
        calibrated_frames(raw, tmp_path / "out", (None, ""), flag_only=True)
    assert "no bias master fits" in capsys.readouterr().err
    with pytest.raises(OptionError, match="--without science"):
        calibrated_frames(raw, tmp_path / "out", (None, "science"), flag_only=True)
    with pytest.raises(FileError, match="no such folder"):
        calibrated_frames(tmp_path / "nowhere", tmp_path, (None, ""), flag_only=True)
