"""A night: what each file is and why, masters by groups, plan and reduction, reruns, processes, damage."""

import os
import shutil
import subprocess
import sys
import warnings

import attrs
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import larun
from larun.errors import FileError, LarunWarning, OptionError
from larun.model.grouping import group
from larun.model.raw.exposures import slug, stem_of

pytestmark = pytest.mark.filterwarnings("ignore:.*amplifier glow:larun.errors.LarunWarning")


@pytest.fixture
def raw(sample, tmp_path):
    """A copy of the simulated night that may be damaged."""
    shutil.copytree(sample.folder, tmp_path / "raw", ignore=shutil.ignore_patterns("truth"))
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def reduced(sample, tmp_path_factory):
    out = tmp_path_factory.mktemp("reduced") / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        return out, larun.Night(sample.folder).reduce(out)


def status(summary):
    return {row.name: row.status for row in summary.rows}


def ids_in(out):
    found = {}
    for path in sorted(out.rglob("*.fits")):
        found[path.relative_to(out).as_posix()] = larun.Image.read(path).provenance.id
    for path in sorted(out.glob("catalogs/*.ecsv")):
        found[path.relative_to(out).as_posix()] = larun.SourceCatalog.read(path).provenance.id
    return found


def test_every_file_has_a_kind_and_the_evidence_for_it(sample):
    night = larun.Night(sample.folder)
    kinds = {item.path.name.split("-")[0]: item.kind for item in night.files}
    assert kinds == {"bias": "bias", "dark": "dark", "flat": "flat", "science": "science"}
    assert [item.path for item in night.files] == sorted(item.path for item in night.files)
    flat = night.of("flat")[0]
    assert flat.evidence == "IMAGETYP='flat'"
    row = flat.to_dict()
    assert (row["kind"], row["filter"], row["exposure"], row["binning"]) == ("flat", "R", 3.0, [1, 1])
    assert row["size"] == [176, 160]
    assert row["camera"] == "Generic"


def test_masters_are_made_by_groups(sample):
    assert sorted(repr(master).split()[0] for master in sample.masters) == [
        "<MasterBias",
        "<MasterDark",
        "<MasterFlat",
        "<MasterFlat",
    ]
    assert {flat.criteria["filter"] for flat in sample.masters.of("flat")} == {"V", "R"}
    flat = sample.masters.of("flat")[0]
    parents = {p.provenance.id for p in flat.provenance.parents}
    assert sample.masters.of("bias")[0].provenance.id in parents
    assert sample.masters.of("dark")[0].provenance.id in parents


def test_groups_have_different_names(sample):
    night = larun.Night(sample.folder)
    flats = night.of("flat")
    moved = [attrs.evolve(f, criteria={**f.criteria, "instrument": "other"}) for f in flats]
    names = [g.name for g in group("flat", [*flats, *moved])]
    assert len(names) == len(set(names)) == 4
    hostile = attrs.evolve(flats[0], criteria={**flats[0].criteria, "filter": "../../etc/passwd\n--x"})
    (only,) = group("flat", [hostile])
    assert "/" not in only.name
    assert not only.name.startswith(("-", "."))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("d1059.fits.fz", "d1059"),
        ("A.FIT", "A"),
        ("x.fts.gz", "x"),
        ("-rf.fits", "rf"),
        ("..hidden.fits", "hidden"),
        ("ä b;c.fits", "__b_c"),
    ],
)
def test_names_of_products_are_safe(tmp_path, name, stem):
    assert stem_of(tmp_path / name) == stem
    assert slug("") == "unnamed"


def test_reduce_writes_everything_and_tells(sample, reduced):
    out, summary = reduced
    assert not summary.failed
    assert status(summary) == dict.fromkeys(status(summary), "done")
    assert len(summary.rows) == 4 + 4
    science = next(row for row in summary.rows if row.name == "science-V-001")
    assert science.sources == len(larun.SourceCatalog.read(out / "catalogs" / "science-V-001.ecsv"))
    assert science.filter == "V"
    assert science.fwhm == pytest.approx(sample.truth.select("object", "V")[0].seeing, rel=0.15)
    table = Table.read(out / "summary.ecsv")
    assert list(table["name"]) == [row.name for row in summary.rows]
    assert summary.to_dicts()[0]["status"] == "done"
    frame = larun.Frame.read(out / "frames" / "science-V-001.fits")
    assert frame.identical(sample.clean)  # the same as the chain by hand
    catalog = larun.SourceCatalog.read(out / "catalogs" / "science-V-001.ecsv")
    assert catalog.identical(sample.catalog)
    assert not list(out.rglob("*.tmp*"))


def test_plan_names_what_reduce_writes(sample, reduced):
    out, _ = reduced
    planned = {row["product"] for row in larun.Night(sample.folder).plan(out)}
    written = {str(path) for path in out.rglob("*") if path.is_file() and path.name != "summary.ecsv"}
    assert planned == written


def test_a_rerun_skips_what_is_done_and_redoes_what_changed(sample, reduced, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(reduced[0], out)
    night = larun.Night(sample.folder)
    again = night.reduce(out)
    assert set(status(again).values()) == {"skipped"}
    assert [row.sources for row in again.rows] == [row.sources for row in reduced[1].rows]
    before = ids_in(out)
    changed = night.reduce(out, recipe=larun.Recipe(detect={"threshold": 7.0}))
    assert {n: s for n, s in status(changed).items() if n.startswith("science")} == dict.fromkeys(
        (n for n in status(changed) if n.startswith("science")), "done"
    )
    assert {s for n, s in status(changed).items() if not n.startswith("science")} == {"skipped"}
    after = ids_in(out)
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("catalogs")}
    # a damaged product, a lost one, and an option of the masters
    path = out / "frames" / "science-R-001.fits"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    (out / "catalogs" / "science-R-002.ecsv").unlink()
    mended = night.reduce(out, recipe=larun.Recipe(detect={"threshold": 7.0}))
    assert {n for n, s in status(mended).items() if s == "done"} == {"science-R-001", "science-R-002"}
    assert ids_in(out) == after
    master = out / "masters" / "bias-176x160.fits"
    master.write_bytes(master.read_bytes()[:-5000])
    remade = night.reduce(out, recipe=larun.Recipe(detect={"threshold": 7.0}))
    assert {n for n, s in status(remade).items() if s == "done"} == {"bias-176x160"}
    assert ids_in(out) == after


def test_a_changed_raw_file_is_noticed(raw, tmp_path):
    out = tmp_path / "out"
    larun.Night(raw).reduce(out)
    with fits.open(raw / "flat-V-002.fits", mode="update") as hdus:
        hdus[0].data[50, 50] += 1
    again = larun.Night(raw).reduce(out)
    assert {n for n, s in status(again).items() if s == "done"} == {"flat-V-176x160", "science-V-001", "science-V-002"}


def test_acceptance_34_processes_make_the_same(sample, reduced, tmp_path):
    out = tmp_path / "out"
    summary = larun.Night(sample.folder).reduce(out, processes=2)
    assert [row.name for row in summary.rows] == [row.name for row in reduced[1].rows]
    assert ids_in(out) == ids_in(reduced[0])
    for name in ("frames/science-V-002.fits", "catalogs/science-R-001.ecsv", "masters/bias-176x160.fits"):
        assert (out / name).read_bytes() == (reduced[0] / name).read_bytes()


def test_a_corrupt_bias_is_left_out_with_a_message(raw, tmp_path):
    path = raw / "bias-002.fits"
    path.write_bytes(path.read_bytes()[:30000])
    night = larun.Night(raw)
    rows = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masters = night.masters(report=rows.append)
    told = [str(w.message) for w in caught] + [row.message for row in rows]
    bad = [item for item in night.files if item.kind == "unreadable"]
    assert any("bias-002.fits" in text for text in told) or "bias-002" in str(bad)
    assert masters.of("bias")[0].count == 4


def test_a_compressed_bias_that_is_damaged_inside_is_left_out(raw):
    """Its header is fine, so that only reading the pixels tells."""
    path = raw / "bias-003.fits"
    data, header = fits.getdata(path), fits.getheader(path)
    path.unlink()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="GZIP_1")]).writeto(
        raw / "bias-003.fits.fz"
    )
    content = bytearray((raw / "bias-003.fits.fz").read_bytes())
    content[-8000:-6000] = b"\0" * 2000
    (raw / "bias-003.fits.fz").write_bytes(content)
    rows = []
    with pytest.warns(LarunWarning, match=r"left out bias-003\.fits\.fz"):
        masters = larun.Night(raw).masters(report=rows.append)
    assert masters.of("bias")[0].count == 4
    assert any("bias-003.fits.fz" in row.message for row in rows)


def test_files_that_cannot_be_read_become_rows_and_stop_nothing(raw, tmp_path):
    (raw / "empty.fits").write_bytes(b"")
    (raw / "text.fits").write_text("this is no FITS file\n" * 500)
    (raw / "notes.txt").write_text("not looked at")
    (raw / ".hidden").mkdir()
    shutil.copy(raw / "science-V-001.fits", raw / ".hidden" / "x.fits")
    night = larun.Night(raw)
    assert {item.path.name for item in night.of("unreadable")} == {"empty.fits", "text.fits"}
    assert len(night.of("science")) == 4
    summary = night.reduce(tmp_path / "out")
    assert {row.name for row in summary.failed} == {"empty.fits", "text.fits"}
    assert all(row.message for row in summary.failed)


def test_a_science_frame_without_master_fails_alone(raw, tmp_path):
    for path in raw.glob("flat-R-*.fits"):
        path.unlink()
    summary = larun.Night(raw).reduce(tmp_path / "out")
    assert {row.name for row in summary.failed} == {"science-R-001", "science-R-002"}
    assert "filter (V, frame R)" in summary.failed[0].message
    assert {row.name for row in summary.done} >= {"science-V-001", "science-V-002"}


def test_duplicate_names_in_subfolders_do_not_overwrite_each_other(raw, tmp_path):
    (raw / "late").mkdir()
    shutil.move(raw / "science-V-002.fits", raw / "late" / "science-V-001.fits")
    night = larun.Night(raw)
    products = [row["product"] for row in night.plan(tmp_path / "out")]
    assert len(products) == len(set(products))
    summary = night.reduce(tmp_path / "out", recipe=larun.Recipe(clean=None))
    assert {"science-V-001", "late-science-V-001"} <= set(status(summary))
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 4


def test_a_name_that_looks_like_a_subfolder_does_not_collide(raw, tmp_path):
    (raw / "late").mkdir()
    shutil.copy(raw / "science-V-002.fits", raw / "late" / "science-V-001.fits")
    shutil.copy(raw / "science-V-002.fits", raw / "late-science-V-001.fits")
    shutil.copy(raw / "science-V-002.fits", raw / "science-V-001.fit")
    products = [row["product"] for row in larun.Night(raw).plan(tmp_path / "out")]
    assert len(products) == len(set(products))


def test_products_inside_the_folder_are_left_out(raw):
    out = raw / "out"
    one = larun.Night(raw).reduce(out, recipe=larun.Recipe(clean=None))
    two = larun.Night(raw).reduce(out, recipe=larun.Recipe(clean=None))
    assert len(one.rows) == len(two.rows)
    assert set(status(two).values()) == {"skipped"}


def test_masters_of_another_night_serve(raw, reduced, tmp_path):
    for pattern in ("bias", "dark", "flat"):
        for path in raw.glob(f"{pattern}-*.fits"):
            path.unlink()
    summary = larun.Night(raw).reduce(tmp_path / "out", masters=reduced[0] / "masters")
    assert not summary.failed
    assert ids_in(tmp_path / "out").items() <= ids_in(reduced[0]).items()


def test_given_values_reach_every_frame(raw, tmp_path):
    night = larun.Night(raw, given={"gain": 1.7})
    masters = night.masters(tmp_path / "masters")
    assert masters.of("bias")[0].raw_detector.amplifiers[0].gain == 1.7
    assert all(root.given == {"gain": 1.7} for root in masters.of("bias")[0].provenance.roots())
    assert night.masters(tmp_path / "masters").of("bias")[0].identical(masters.of("bias")[0])


def test_nothing_there_raises(tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        larun.Night(tmp_path / "nowhere").files
    with pytest.raises(FileError, match="holds no raw FITS"):
        larun.Night(tmp_path).files


def test_options_that_make_no_sense_raise(sample, raw, tmp_path):
    with pytest.raises(OptionError, match="processes"):
        larun.Night(sample.folder).reduce(tmp_path / "out", processes=0)
    for path in raw.glob("science-*.fits"):
        path.unlink()
    with pytest.raises(OptionError, match="no science frames"):
        larun.Night(raw).reduce(tmp_path / "out")


def test_a_master_that_fails_is_reported(raw, tmp_path):
    for path in raw.glob("flat-V-*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[:] = 1000  # no light
    rows = []
    made = larun.Night(raw).masters(report=rows.append)
    assert [flat.criteria["filter"] for flat in made.of("flat")] == ["R"]
    (failed,) = [row for row in rows if row.status == "failed"]
    assert "no light" in failed.message
    with pytest.raises(OptionError, match="no light"):
        larun.Night(raw).masters()


def test_progress_is_told(sample, tmp_path):
    calls = []
    larun.Night(sample.folder).masters(progress=lambda *call: calls.append(call))
    assert [call[1] for call in calls] == list(range(4))
    assert {call[2] for call in calls} == {4}


SCRIPT = """
import sys
import larun


class MyCamera(larun.Frame):
    required = frozenset({"bias", "flat"})

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "larun simulated camera"


if __name__ == "__main__":
    summary = larun.Night(sys.argv[1]).reduce(sys.argv[2], processes=int(sys.argv[3]))
    print([(row.name, row.status) for row in summary.rows if row.status != "skipped"])
    frame = larun.Frame.read(sys.argv[2] + "/frames/science-V-001.fits")
    assert type(frame) is MyCamera, type(frame)
"""


def test_acceptance_34_a_camera_defined_in_a_script_has_one_id_in_every_process(sample, tmp_path):
    script = tmp_path / "reduce.py"
    script.write_text(SCRIPT)

    def run(out, processes):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script, sample.folder, tmp_path / out, str(processes)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LARUN_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "failed" not in run("one", 1)
    assert "failed" not in run("two", 2)
    assert run("two", 1).strip() == "[]"  # nothing to do again, whoever did it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)  # here the class is unknown
        assert ids_in(tmp_path / "one") == ids_in(tmp_path / "two")


def test_build_options_reach_the_masters(sample):
    mask = np.zeros((160, 176))
    mask[3, 4] = 1
    how = {"method": "median"}
    recipe = larun.Recipe(masters={"bad_pixels": mask}, bias=how, dark=how, flat=how)
    made = larun.Night(sample.folder).masters(recipe=recipe)
    for master in made:
        assert master.flags[3, 4] & larun.flags.BAD
        assert master.provenance.step.parameters["method"] == "median"


def test_a_master_made_without_a_bad_file_is_not_made_again(sample, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in sample.paths("bias"):
        shutil.copy(path, folder / path.name)
    broken = folder / sample.paths("bias")[1].name
    broken.write_bytes(broken.read_bytes()[:-20000])
    rows = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", larun.errors.LarunWarning)
            larun.Night(folder).masters(tmp_path / "masters", report=rows.append)
    assert [(row.status, row.frames) for row in rows if row.kind == "bias"] == [("done", 4), ("skipped", 4)]


def test_a_plan_tells_which_masters_will_be_missing(sample, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (*sample.paths("bias"), *sample.paths("object", "V")):
        (raw / path.name).symlink_to(path)
    with pytest.warns(LarunWarning) as told:
        larun.Night(raw).plan(tmp_path / "out")
    words = [str(warning.message) for warning in told]
    assert len(words) == 2
    assert "science frames of Generic require a dark master and there is none" in words[0]
    assert "no camera class claims its header: one of your own is named with --instrument FILE.py" in words[0]
    assert "flat master" in words[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        larun.Night(raw).plan(tmp_path / "out", recipe=larun.Recipe().evolve(calibrate={"without": ("dark", "flat")}))
        larun.Night(sample.folder).plan(tmp_path / "out")
    (raw / "only-lights").mkdir()
    for path in sample.paths("object", "V"):
        (raw / "only-lights" / path.name).symlink_to(path)
    with pytest.warns(LarunWarning, match="require a bias master"):  # going without the dark brings no bias
        larun.Night(raw / "only-lights").plan(
            tmp_path / "out", recipe=larun.Recipe().evolve(calibrate={"without": ("dark", "flat")})
        )
    with pytest.raises(larun.errors.NoMatchingMaster, match=r"--instrument FILE\.py"):
        sample.raw.calibrate()


def test_products_do_not_go_among_the_raw_files(sample):
    for step in (larun.Night(sample.folder).reduce, larun.Night(sample.folder).plan):
        with pytest.raises(OptionError, match="is the folder of the raw files"):
            step(sample.folder / ".." / sample.folder.name)


def test_a_master_of_files_that_are_gone_serves_no_more(sample, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (*sample.paths("bias"), *sample.paths("object", "V")):
        (raw / path.name).symlink_to(path)
    without = larun.Recipe().evolve(calibrate={"without": ("dark", "flat")})
    night = larun.Night(raw)
    assert not night.reduce(tmp_path / "out", recipe=without).failed
    for path in sample.paths("bias"):
        (raw / path.name).unlink()
    rows = larun.Night(raw).reduce(tmp_path / "out", recipe=without).failed
    assert len(rows) == 2
    assert all("no bias master" in row.message for row in rows)
    again = larun.Night(raw).reduce(tmp_path / "out", recipe=without, masters=tmp_path / "out" / "masters")
    assert {row.status for row in again.rows} == {"skipped"}


def test_many_frames_may_be_open_at_once(sample, tmp_path):
    """A master of more streamed files than the usual limit of open files."""
    code = f"""
import resource, larun
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 4096))
paths = {[str(path) for path in sample.paths("bias")] * 8!r}
larun.MasterBias.combine(paths, options=larun.BuildOptions(max_memory=2e5))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
