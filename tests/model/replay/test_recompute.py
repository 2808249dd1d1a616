"""Products made again by their own record: bit for bit, from raws that were moved, by users' own classes and steps."""

import gzip
import json
import shutil
import sys
import types
import warnings
from pathlib import Path

import attrs
import numpy as np
import pytest

import larun
from larun.algorithms import jit
from larun.errors import FileError, LarunWarning, NotReplayable, RawNotFound
from larun.model import building
from larun.model.replay.raws import RawFiles
from larun.model.replay.recompute import Replayer, products_in
from larun.provenance import OPERATIONS, Parent, Provenance

pytestmark = pytest.mark.filterwarnings("ignore:.*amplifier glow:larun.errors.LarunWarning")


@pytest.fixture(scope="module")
def out(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replayed") / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        larun.Night(sample.folder).reduce(folder)
    return folder


def all_equal(out, raw):
    replayer = Replayer(raw)
    found = {path.name: replayer.replay(path) for path in products_in(out)}
    assert len(found) == 12
    return {name: str(made) for name, made in found.items() if not made.equal or made.notes}


def test_a_whole_night_is_the_same_bit_for_bit(sample, out):
    assert all_equal(out, sample.folder) == {}


def test_it_is_the_same_with_other_threads_and_bands(sample, out, monkeypatch):
    monkeypatch.setattr(building, "_BAND_MEMORY", 40_000.0)  # a few rows at a time
    before = jit.threads()
    try:
        larun.set_threads(1)
        assert all_equal(out, sample.folder) == {}
    finally:
        larun.set_threads(before)


def test_raw_files_may_be_moved_renamed_and_compressed_again(sample, out, tmp_path):
    for number, path in enumerate(sorted(sample.folder.glob("*.fits*"))):
        place = tmp_path / f"box{number % 3}" / f"{number:03}{path.suffix}"
        place.parent.mkdir(exist_ok=True)
        if number % 2 or path.suffix != ".fits":
            shutil.copy(path, place)
        else:
            place.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    assert all_equal(out, tmp_path) == {}


def test_without_a_folder_raw_files_are_looked_for_where_they_were(out):
    assert larun.replay(out / "frames" / "science-V-001.fits").equal


def test_a_raw_file_that_is_gone_or_changed_is_named(sample, out, tmp_path):
    with pytest.raises(RawNotFound, match=r"(bias|science|flat|dark)\S*\.fits.*is not in .*--raw"):
        larun.replay(out / "frames" / "science-V-001.fits", raw=tmp_path)
    with pytest.raises(FileError, match="no such file or folder"):
        RawFiles([tmp_path / "none"])


def test_a_file_that_took_the_place_of_a_raw_file_is_named(sample, out, tmp_path):
    from astropy.io import fits

    frame = out / "frames" / "science-V-001.fits"
    raw = tmp_path / "raw"
    shutil.copytree(sample.folder, raw)
    place = raw / "science-V-001.fits"
    with fits.open(place, mode="update") as file:
        file[0].header["OBSERVER"] = "somebody else"
    with pytest.raises(RawNotFound, match=r"science-V-001\.fits has another header\)"):
        larun.replay(frame, raw=raw)
    with fits.open(place, mode="update") as file:
        file[0].data[3, 4] += 1
    with pytest.raises(RawNotFound, match=r"science-V-001\.fits has other pixels\)"):
        larun.replay(frame, raw=raw)
    place.write_bytes(place.read_bytes()[:20_000])
    with pytest.raises(RawNotFound, match=r"ends early"):
        larun.replay(frame, raw=raw)
    place.unlink()
    with pytest.raises(RawNotFound, match=r"is not in \S*raw: name"):
        larun.replay(frame, raw=raw)


def test_a_product_that_was_changed_differs_and_where_is_said(sample, out):
    frame = larun.Frame.read(out / "frames" / "science-V-001.fits")
    data = frame.data.copy()
    data[12, 34] += 1.5
    made = larun.replay(attrs.evolve(frame, data=data), raw=sample.folder)
    assert not made.equal
    (difference,) = made.differences
    assert (difference.what, difference.values) == ("data", 1)
    assert difference.largest == pytest.approx(1.5, abs=0.01)
    assert "x = 34, y = 12" in str(made)
    catalog = larun.SourceCatalog.read(out / "catalogs" / "science-V-001.ecsv")
    table = catalog.table
    table["x"][3] += 0.25 * table["x"].unit
    made = larun.replay(attrs.evolve(catalog, table=table), raw=sample.folder)
    assert [item.what for item in made.differences] == ["x"]
    assert "in row 3" in str(made)
    shorter = attrs.evolve(catalog, table=table[:-1])
    assert "sources" in str(larun.replay(shorter, raw=sample.folder))


def test_a_step_of_another_version_is_named(sample, out, monkeypatch):
    monkeypatch.setitem(OPERATIONS, "clean", attrs.evolve(OPERATIONS["clean"], version=99))
    made = larun.replay(out / "frames" / "science-V-001.fits", raw=sample.folder)
    assert made.equal  # here only the number has changed
    assert any("clean was version" in note and "99" in note for note in made.notes)


def test_an_unknown_operation_or_parameter_is_named(sample, monkeypatch):
    step = sample.clean.provenance.step
    parents = (Parent("self", sample.frame.provenance),)
    for changed, words in (
        (attrs.evolve(step, operation="polish"), "no operation 'polish'"),
        (attrs.evolve(step, parameters={**step.parameters, "shine": 3}), "shine"),
    ):
        record = Provenance(step=changed, parents=parents)
        with pytest.raises(NotReplayable, match=words):
            Replayer(sample.folder).make(record)


@pytest.mark.parametrize(
    "chain",
    [
        lambda frame: frame.crop((10, 90), (20, 100)),
        lambda frame: frame.bin(2),
        lambda frame: frame * 2.0,
        lambda frame: (frame + frame) / 2.0,
        lambda frame: frame - frame.crop((0, 176), (0, 160)),
        lambda frame: frame.detect(7, method="sep", options={"min_area": 6}).photometer((3.0, 5.0), unit="pixel"),
        lambda frame: frame.detect(7).photometer(aperture="kron").select("snr > 20"),
        lambda frame: frame.detect(7).morphology(),
        lambda frame: frame.photometer([[40.5, 50.25], [80.0, 90.0]], (4.0,), unit="pixel", annulus=(8.0, 14.0)),
        lambda frame: frame.clean(engine="median", sigma=8, replace=False),
    ],
)
def test_every_operation_is_carried_out_again(sample, chain):
    made = larun.replay(chain(sample.frame), raw=sample.folder)
    assert made.equal, str(made)
    assert made.again.provenance.id == made.product.provenance.id


@pytest.mark.parametrize("symmetric", [lambda a, b: a + b, lambda a, b: a * b])
def test_a_sum_made_again_has_the_header_of_its_first_operand(sample, symmetric, tmp_path):
    one, two = (larun.Frame.read(path) for path in sample.paths("object")[:2])
    ways = symmetric(one, two), symmetric(two, one)
    assert ways[0].provenance.id == ways[1].provenance.id
    assert [way.header["DATE-OBS"] for way in ways] == [one.header["DATE-OBS"], two.header["DATE-OBS"]]
    for number, way in enumerate(ways):
        made = larun.replay(way.write(tmp_path / f"{number}.fits"), raw=sample.folder)
        assert made.equal, str(made)
        assert made.again.header["DATE-OBS"] == way.header["DATE-OBS"]


def brighter(image, factor=1.0):
    """A step of a user's own."""
    return image.with_planes(data=image.data * np.float32(factor))


def test_steps_of_a_users_own_are_carried_out_if_they_are_known(sample, monkeypatch):
    module = types.ModuleType("own_steps")
    source = (
        "import numpy as np\n"
        "def dimmer(image, factor):\n"
        "    return image.with_planes(data=image.data / np.float32(factor))\n"
    )
    exec(compile(source, "own_steps.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "own_steps", module)
    product = sample.frame.pipe(brighter, factor=1.5).pipe(module.dimmer, 3.0)
    made = larun.replay(product, raw=sample.folder)
    assert made.equal, str(made)
    monkeypatch.delitem(sys.modules, "own_steps")
    with pytest.raises(NotReplayable, match=r"own_steps:dimmer is not known here.*functions="):
        larun.replay(product, raw=sample.folder)
    assert larun.replay(product, raw=sample.folder, functions=[module.dimmer]).equal
    exec(compile(source.replace("/ np", "* np"), "own_steps.py", "exec"), module.__dict__)
    changed = larun.replay(product, raw=sample.folder, functions=[module.dimmer])
    assert not changed.equal
    assert any("another source" in note for note in changed.notes)


def test_a_function_of_a_script_is_known_again_by_its_name_and_source(sample, tmp_path, monkeypatch):
    import importlib
    import subprocess

    (tmp_path / "my_script.py").write_text(SCRIPT_WITH_A_STEP)
    command = [sys.executable, str(tmp_path / "my_script.py"), str(sample.paths("object")[0]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    product = larun.Frame.read(tmp_path / "own.fits")
    with pytest.raises(NotReplayable, match=r"__main__:tripled is not known here: hand it over"):
        larun.replay(product, raw=sample.folder)
    monkeypatch.syspath_prepend(tmp_path)
    step = importlib.import_module("my_script").tripled
    made = larun.replay(product, raw=sample.folder, functions=[step])
    assert made.equal, str(made)
    assert made.notes == ()
    (tmp_path / "other_script.py").write_text(SCRIPT_WITH_A_STEP.replace("* 3", "* 4"))
    other = importlib.import_module("other_script").tripled
    with pytest.raises(NotReplayable, match="__main__:tripled is not known here"):
        larun.replay(product, raw=sample.folder, functions=[other])


SCRIPT_WITH_A_STEP = """
import sys
import larun

def tripled(image):
    return image.with_planes(data=image.data * 3)

if __name__ == "__main__":
    larun.Frame.read(sys.argv[1]).pipe(tripled).write(sys.argv[2] + "/own.fits")
"""


def test_nothing_is_imported_because_a_record_says_so(sample, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\ndef step(image):\n    return image * 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    product = sample.frame.pipe(brighter, 2.0)
    text = json.dumps(product.provenance.step.parameters).replace(f"{__name__}:brighter", "trap:step")
    step = attrs.evolve(product.provenance.step, parameters=json.loads(text))
    with pytest.raises(NotReplayable, match="trap:step is not known"):
        Replayer(sample.folder).make(Provenance(step=step, parents=product.provenance.parents))
    assert "trap" not in sys.modules
    assert not Path("sprung").exists()


def test_arrays_from_memory_cannot_be_made_again(sample):
    with pytest.raises(NotReplayable, match="memory"):
        larun.replay(larun.Frame.from_arrays(np.ones((20, 20))) * 2.0, raw=sample.folder)
    with pytest.raises(NotReplayable, match="with_planes"):
        larun.replay(sample.frame.with_planes(data=sample.frame.data * 2), raw=sample.folder)


def test_bad_pixels_and_overscan_options_come_back(sample, tmp_path):
    mask = np.zeros(sample.frame.shape, np.float32)
    mask[30:33, 40] = 1
    larun.Image.from_arrays(mask).write(tmp_path / "mask.fits")
    from astropy.io import fits

    fits.writeto(tmp_path / "raw_mask.fits", mask)
    raw = larun.Frame.read(sample.paths("object", "V")[0])
    options = larun.OverscanOptions(method="polynomial", degree=2)
    masters = larun.Night(sample.folder).masters(
        recipe=larun.Recipe(masters={"bad_pixels": tmp_path / "raw_mask.fits"})
    )
    for master in (masters.of("bias")[0], masters.of("flat")[0]):
        made = larun.replay(master, raw=[sample.folder, tmp_path / "raw_mask.fits"])
        assert made.equal, str(made)
    known = larun.Frame.read(tmp_path / "raw_mask.fits")
    frame = raw.calibrate(sample.masters, overscan=options, bad_pixels=known)
    made = larun.replay(frame, raw=[sample.folder, tmp_path / "raw_mask.fits"])
    assert made.equal, str(made)


SCRIPT = '''
import sys, warnings
import larun
from larun.flags import BAD
import numpy as np

warnings.simplefilter("ignore")

class RoofCamera(larun.Frame):
    """A camera of the script's own."""

    @classmethod
    def matches(cls, header):
        return "SIMSEED" in header or True

    @classmethod
    def flag_raw(cls, data, header, first_row):
        flags = np.zeros(data.shape, np.uint32)
        if first_row <= 20 < first_row + len(data):
            flags[20 - first_row, 30] = BAD
        return flags

raw, out = sys.argv[1:]
night = larun.Night(raw)
masters = night.masters()
frame = larun.Frame.read(night.of("science")[0].path).calibrate(masters).clean()
assert type(frame) is RoofCamera and frame.flags[20, 30] & BAD
sources = frame.detect().photometer()
frame.write(out + "/frame.fits")
sources.write(out + "/sources.ecsv")
for name in ("frame.fits", "sources.ecsv"):
    made = larun.replay(out + "/" + name, raw=raw)
    print(type(made.again).__name__, made)
'''


def test_a_camera_of_a_script_survives_the_chain_and_its_replay(sample, tmp_path):
    import subprocess

    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(sample.folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "RoofCamera made again, bit for bit the same",
        "SourceCatalog made again, bit for bit the same",
    ]
    with pytest.warns(LarunWarning, match="not known here: read as Generic"):
        frame = larun.Frame.read(tmp_path / "frame.fits")
    with pytest.raises(NotReplayable, match=r"RoofCamera.*not known here"):
        larun.replay(frame, raw=sample.folder)
