"""Which class reads a header; what is said with ``given``; what a plugin may and may not do."""

import importlib.metadata
import sys

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import HeaderError, LarunWarning, OptionError
from larun.instruments.generic import Generic
from larun.instruments.nickel import Nickel
from larun.model import registry
from tests.model.cameras import Decorated, Plain


@pytest.fixture(autouse=True)
def forget_new_cameras(monkeypatch):
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))


def write(path, **cards):
    header = fits.Header({"GAIN": 1.5, "RDNOISE": 5.0, "EXPTIME": 30.0, **cards})
    fits.PrimaryHDU(np.full((12, 10), 1000, np.uint16), header).writeto(path)
    return path


@pytest.mark.parametrize(
    ("instrument", "cls"),
    [
        ("plain test camera", Plain),
        ("decorated test camera", Decorated),
        ("Nickel Direct Camera", Nickel),
        ("something else", Generic),
    ],
)
def test_the_header_picks_the_class(tmp_path, instrument, cls):
    path = write(tmp_path / "a.fits", INSTRUME=instrument, CDELT1U=1)
    assert type(larun.Frame.read(path)) is cls
    assert type(larun.Image.read(path)) is cls
    assert type(larun.SkyImage.read(path)) is cls
    assert type(Plain.read(path)) is Plain  # a camera asked for by name is taken at its word


def test_the_most_derived_match_wins(tmp_path):
    class Special(Plain):
        @classmethod
        def matches(cls, header):
            return super().matches(header) and header.get("EXPTIME", 0) > 100

    class Quiet(Plain):
        """No ``matches`` of its own: no camera."""

    assert type(larun.Frame.read(write(tmp_path / "a.fits", INSTRUME="plain test camera", EXPTIME=200.0))) is Special
    assert type(larun.Frame.read(write(tmp_path / "b.fits", INSTRUME="plain test camera", EXPTIME=20.0))) is Plain
    assert Quiet not in registry.cameras()
    assert type(Quiet.read(tmp_path / "a.fits")) is Quiet


def test_two_unrelated_claims_raise(tmp_path):
    @attrs.frozen(kw_only=True, eq=False, repr=False)
    class Rival(larun.Frame):
        @classmethod
        def matches(cls, header):
            return header.get("INSTRUME") == "plain test camera"

    path = write(tmp_path / "a.fits", INSTRUME="plain test camera")
    with pytest.raises(HeaderError, match=r"a\.fits: claimed by .*Plain.*Rival"):
        larun.Frame.read(path)
    assert type(Rival.read(path)) is Rival
    assert sum(cls.__name__ == "Rival" for cls in registry.cameras()) == 1  # slotted: made twice, counted once


def test_a_class_name_in_a_file_never_imports(tmp_path):
    from larun.io.product import read_product, write_product

    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')\n")
    larun.Frame.from_arrays(np.ones((4, 4))).write(tmp_path / "a.fits")
    parts = read_product(tmp_path / "a.fits")._replace(class_name="evil_module:Camera")
    write_product(tmp_path / "b.fits", parts)
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.warns(LarunWarning, match="evil_module:Camera"):
            assert type(larun.Frame.read(tmp_path / "b.fits")) is Generic
    finally:
        sys.path.remove(str(tmp_path))
    assert "evil_module" not in sys.modules


def test_a_plugin_that_fails_is_a_warning_and_stops_no_other(monkeypatch, tmp_path):
    class Entry:
        def __init__(self, name, action):
            self.name, self.value, self.load = name, f"{name}:Camera", action

    loaded = []

    def broken():
        raise ZeroDivisionError("boom")

    entries = [Entry("broken", broken), Entry("good", lambda: loaded.append("good"))]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **kwargs: entries)
    registry.load_plugins.cache_clear()
    try:
        with pytest.warns(LarunWarning, match=r"camera broken \(broken:Camera\) cannot be loaded: boom"):
            larun.Frame.read(write(tmp_path / "a.fits"))
        assert loaded == ["good"]
    finally:
        registry.load_plugins.cache_clear()


def test_a_class_of_a_script_keeps_its_name_in_worker_processes():
    class Camera(larun.Frame):
        pass

    Camera.__module__ = "__mp_main__"
    here = registry.name_of(Camera)
    Camera.__module__ = "__main__"
    assert registry.name_of(Camera) == here


# -- what the caller says ----------------------------------------------------------------------------------------------


def test_what_is_given_is_used_and_recorded(tmp_path):
    path = write(tmp_path / "a.fits", GAIN="unknown")
    frame = larun.Frame.read(path, gain=1.8, EXPTIME=60, filter="V", saturation=5e4)
    assert frame.detector.amplifiers[0].gain == 1.8
    assert frame.detector.amplifiers[0].saturation == 5e4
    assert frame.detector.sources["gain"] == "given"
    assert (frame.exposure, frame.filter) == (60.0, "V")
    assert frame.header["EXPTIME"] == 60
    assert frame.provenance.root.given == {"EXPTIME": 60, "filter": "V", "gain": 1.8, "saturation": 50000}
    assert "given: EXPTIME=60, filter='V', gain=1.8" in str(frame.provenance)
    assert frame.provenance.id != larun.Frame.read(path).provenance.id
    assert (
        frame.provenance.id
        == larun.Frame.read(path, filter="V", saturation=50000, EXPTIME=60.0, gain=1.8).provenance.id
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gain": 0}, "gain = 0: must be positive"),
        ({"gain": "high"}, "must be a number"),
        ({"gain": float("nan")}, "must be positive"),
        ({"read_noise": -1}, "must be positive"),
        ({"colour": 3}, "'colour' is neither a quantity"),
        ({"TOOLONGKEYWORD": 3}, "neither a quantity"),
    ],
)
def test_what_cannot_be_given_raises(tmp_path, given, message):
    with pytest.raises(OptionError, match=message):
        larun.Frame.read(write(tmp_path / "a.fits"), **given)


def test_a_keyword_that_a_camera_does_not_read_is_told(tmp_path):
    from larun.instruments.sbig import Sbig

    path = write(tmp_path / "a.fits", EGAIN=2.3)
    with pytest.warns(LarunWarning, match=r"GAIN = 1\.2 changes nothing: .*reads gain from EGAIN; give gain=1\.2"):
        frame = Sbig.read(path, GAIN=1.2)
    assert frame.detector.amplifiers[0].gain == 2.3
    assert Sbig.read(path, EGAIN=1.2).detector.amplifiers[0].gain == 1.2
    assert Sbig.read(path, gain=1.2).detector.amplifiers[0].gain == 1.2


def test_sections_beyond_the_array_mean_trimmed_already(tmp_path):
    path = write(tmp_path / "a.fits", TRIMSEC="[1:512,1:512]", BIASSEC="[515:540,1:512]")
    frame = larun.Frame.read(path)
    assert frame.detector.amplifiers[0].data.shape == (12, 10)
    assert "already trimmed" in frame.detector.sources["sections"]
    assert frame.calibrate(without=("bias", "dark", "flat")).shape == (12, 10)


@pytest.mark.parametrize(
    ("cards", "kind", "evidence"),
    [
        ({"IMAGETYP": "Bias Frame"}, "bias", "IMAGETYP='Bias Frame'"),
        ({"IMAGETYP": "zero"}, "bias", "IMAGETYP='zero'"),
        ({"OBSTYPE": "DARK", "EXPTIME": 0.0}, "bias", "OBSTYPE='DARK' with EXPTIME=0"),
        ({"OBSTYPE": "DARK", "EXPTIME": 60.0}, "dark", "OBSTYPE='DARK'"),
        ({"IMAGETYP": "FLAT"}, "flat", "IMAGETYP='FLAT'"),
        ({"IMAGETYP": "OBJECT", "OBJECT": "V dome flat"}, "flat", "OBJECT='V dome flat'"),
        ({"IMAGETYP": "OBJECT", "OBJECT": "skyflat_V_3"}, "flat", "OBJECT='skyflat_V_3'"),
        ({"IMAGETYP": "OBJECT", "OBJECT": "Flatfield"}, "flat", "OBJECT='Flatfield'"),
        ({"IMAGETYP": "OBJECT", "OBJECT": "NGC 4147"}, "science", "IMAGETYP='OBJECT'"),
        ({"IMAGETYP": "OBJECT", "OBJECT": "Bias", "EXPTIME": 60.0}, "science", "EXPTIME=60"),
        ({"OBJECT": "flatiron nebula"}, "science", "nothing says calibration"),
        ({"OBJECT": "Darkened sky", "IMAGETYP": "light"}, "science", "light"),
        ({"EXPTIME": 0.0}, "bias", "EXPTIME=0"),
        ({}, "science", "nothing says calibration"),
    ],
)
def test_kinds_by_evidence(cards, kind, evidence):
    found = larun.Frame.classify(fits.Header(cards))
    assert found.kind == kind, found
    assert evidence in found.evidence


def test_a_camera_changes_only_the_rows_it_names():
    assert Nickel.all_keywords()["filter"] == ("FILTNAM",)
    assert Nickel.all_keywords()["gain"] == larun.Frame.all_keywords()["gain"]
    assert larun.Frame.all_keywords()["filter"][0] == "FILTER"
