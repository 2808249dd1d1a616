"""Cameras from a file that the user names: what they may be, and what is said of those that cannot work."""

import pickle
import sys

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import FileError, LarunWarning, OptionError
from larun.model import loading, registry

GOOD = """
import larun


class Roof(larun.Frame):
    required = frozenset()
    gain = 1.5

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "roof"

    @classmethod
    def detector_for(cls, header, shape):
        return super().detector_for(header, shape).with_values(gain=cls.gain)
"""


@pytest.fixture(autouse=True)
def forget_new_cameras(monkeypatch):
    registry.load_plugins()
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    monkeypatch.setattr(registry, "SOURCES", {})
    monkeypatch.setattr(loading, "SOURCES", registry.SOURCES)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "." not in name and getattr(sys.modules[name], "__spec__", None) is None:
            del sys.modules[name]


def camera_file(folder, text=GOOD, name="roof.py"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def raw_file(folder, **cards):
    header = fits.Header({"INSTRUME": "roof", "RDNOISE": 5.0, "EXPTIME": 30.0, **cards})
    fits.PrimaryHDU(np.full((12, 10), 1000, np.uint16), header).writeto(folder / "a.fits")
    return folder / "a.fits"


def test_a_loaded_camera_reads_its_files_and_its_products(tmp_path):
    (camera,) = larun.instruments.load(camera_file(tmp_path))
    frame = larun.Frame.read(raw_file(tmp_path))
    assert type(frame) is camera
    assert frame.detector.amplifiers[0].gain == 1.5
    frame.write(tmp_path / "product.fits")
    assert type(larun.Frame.read(tmp_path / "product.fits")) is camera
    assert type(pickle.loads(pickle.dumps(frame))) is camera
    assert not (tmp_path / "__pycache__").exists()
    registry.forget("roof")
    with pytest.warns(LarunWarning, match=r"'roof:Roof'.*read as Generic.*--instrument"):
        assert type(larun.Frame.read(tmp_path / "product.fits")).__name__ == "Generic"


def test_an_unchanged_file_keeps_its_classes_and_an_edited_one_replaces_them(tmp_path):
    path = camera_file(tmp_path)
    (first,) = loading.load(path)
    assert loading.load(path) == (first,)
    raw = raw_file(tmp_path)
    before = larun.Frame.read(raw).provenance.id
    camera_file(tmp_path, GOOD.replace("Roof", "Tower").replace("1.5", "1.6"))
    (second,) = loading.load(path)
    assert second.__name__ == "Tower"
    assert first not in registry.cameras()
    frame = larun.Frame.read(raw)
    assert frame.detector.amplifiers[0].gain == 1.6
    assert frame.provenance.id != before  # what the file says decides pixels: no product of before is taken for right
    assert "Tower" in frame.provenance.root.instrument


def test_where_the_file_lies_decides_nothing(tmp_path):
    raw = raw_file(tmp_path)
    ids = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        loading.load(camera_file(tmp_path / folder))
        ids.add(larun.Frame.read(raw).provenance.id)
        registry.forget("roof")
        del registry.SOURCES["roof"], sys.modules["roof"]
    assert len(ids) == 1


def test_another_process_runs_the_same_bytes(tmp_path):
    path = camera_file(tmp_path)
    loading.load(path)
    known = loading.sources()
    registry.forget("roof")
    registry.SOURCES.clear()
    del sys.modules["roof"]
    path.unlink()
    loading.restore(pickle.loads(pickle.dumps(known)))
    assert larun.Frame.read(raw_file(tmp_path)).detector.amplifiers[0].gain == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nclass A(:\n", r"roof\.py, line 2: not Python: .* in 'class A\(:'"),
        ("x = '\0'", r"roof\.py.*: not Python"),
        ("import larun\n\n\nboom()\n", r"roof\.py, line 4: NameError: name 'boom'"),
        ("raise SystemExit('stop')", r"roof\.py, line 1: SystemExit: stop"),
        ("x = 1", r"roof\.py: defines no camera: a camera is a subclass of larun\.Frame"),
        ("import larun\nclass A(larun.Frame):\n    pass\n", r"defines no camera \(A has no matches of its own\)"),
        ("from larun.instruments.nickel import Nickel", r"roof\.py: defines no camera: "),
        (GOOD + "    required = frozenset({'light'})\n", r"roof\.py, line 5: OptionError: Roof\.required names"),
        (GOOD + "    keywords = {'filter': 'FILTNAM'}\n", r"Roof\.keywords\['filter'\] = 'FILTNAM': give a tuple"),
        (GOOD.replace("@classmethod", ""), r"line 10: Roof: matches must be a class method.*detector_for must be"),
        (GOOD.replace(".get(", "[").replace('ME")', 'ME"]'), r"Roof: matches fails for an empty header \(KeyError"),
        (GOOD + "    filter = 'V'\n", r"Roof: filter = 'V' hides what every frame has"),
        (GOOD + "    data = 3\n", r"Roof: data = 3 hides"),
        (
            "import attrs\n"
            + GOOD.replace("class ", "@attrs.frozen(kw_only=True, eq=False)\nclass ")
            + "    z: int = 3\n",
            r"Roof: adds the fields z: a camera has constants",
        ),
    ],
)
def test_what_is_no_camera_is_said_with_its_line_and_leaves_nothing(tmp_path, text, message):
    before = registry.cameras()
    with pytest.raises(FileError, match=message):
        loading.load(camera_file(tmp_path, text))
    assert registry.cameras() == before
    assert "roof" not in sys.modules
    assert not loading.sources()


def test_a_broken_edit_keeps_the_camera_that_worked(tmp_path):
    (camera,) = loading.load(camera_file(tmp_path))
    with pytest.raises(FileError, match="not Python"):
        loading.load(camera_file(tmp_path, "class"))
    with pytest.raises(FileError, match="line 17: ZeroDivisionError"):
        loading.load(camera_file(tmp_path, GOOD + "\n1 / 0\n"))
    assert camera in registry.cameras()
    assert sys.modules["roof"].Roof is camera


@pytest.mark.parametrize("name", ["json.py", "scipy.py", "larun.py", "sys.py"])
def test_a_file_may_not_take_the_name_of_a_module(tmp_path, name):
    with pytest.raises(FileError, match=rf"{name}: the name '\w+' belongs to .* already: rename the file"):
        loading.load(camera_file(tmp_path, name=name))


def test_two_files_of_one_name_are_told_apart(tmp_path):
    (tmp_path / "other").mkdir()
    loading.load(camera_file(tmp_path))
    with pytest.raises(FileError, match=r"other.roof\.py: the name 'roof' belongs to .*roof\.py already"):
        loading.load(camera_file(tmp_path / "other", GOOD.replace("Roof", "Cellar")))


def test_any_file_name_will_do(tmp_path):
    (camera,) = loading.load(camera_file(tmp_path, name="2 metre-camera.py"))
    assert registry.name_of(camera) == "_2_metre_camera:Roof"
    frame = larun.Frame.read(raw_file(tmp_path))
    assert type(pickle.loads(pickle.dumps(frame))) is camera


def test_a_module_that_a_script_imported_is_not_run_twice(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = camera_file(tmp_path, name="roof_imported.py")
    import roof_imported

    try:
        assert loading.load(path) == (roof_imported.Roof,)
    finally:
        del sys.modules["roof_imported"]


def test_missing_files_say_so(tmp_path):
    with pytest.raises(FileError, match=r"absent\.py: No such file"):
        loading.load(tmp_path / "absent.py")
    with pytest.raises(FileError, match="directory"):
        loading.load(tmp_path)


def test_required_of_a_script_still_raises_at_once():
    with pytest.raises(OptionError, match="required names"):

        class Wrong(larun.Frame):
            required = frozenset({"lamp"})
