"""Audits: damage of every kind is found and told apart, and so is what is missing, stale, foreign or forged."""

import gzip
import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import FileError, OptionError
from larun.io import container
from larun.io.container import Hdu
from larun.model.audit import STATUSES, audit_bytes
from larun.provenance import Provenance, Root, Step, text_of
from larun.provenance.operation import OPERATIONS
from tests.model import flips


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return flips.reduced(tmp_path_factory.mktemp("audited"))


@pytest.fixture(scope="module")
def contents(night):
    return flips.products(night)


@pytest.fixture
def copied(night, tmp_path):
    """A copy of the night's products, to damage."""
    shutil.copytree(night, tmp_path / "out")
    return tmp_path / "out"


def statuses(found):
    return {file.name: file.status for file in found}


def frame_names(night):
    return sorted(path.relative_to(night).as_posix() for path in (night / "frames").iterdir())


# -- intact ------------------------------------------------------------------------------------------------------------


def test_a_night_is_intact(night, contents):
    found = larun.audit(night)
    assert set(statuses(found)) == set(contents)
    assert set(statuses(found).values()) == {"intact"}
    assert found.good
    assert found.faults == ()
    assert found.notes == {}
    assert str(found) == f"{len(contents)} files: {len(contents)} intact"
    assert json.loads(json.dumps(found.to_dict()))["counts"] == {"intact": len(contents)}
    frame = larun.Frame.read(night / frame_names(night)[0])
    assert next(file.id for file in found if file.name == frame_names(night)[0]) == frame.provenance.id
    assert {file.kind for file in found} == {"image", "table", "summary", "regions"}


def test_one_file_is_audited_with_what_lies_beside_it(night):
    for name in ("frames", "catalogs", "masters"):
        path = min((night / name).glob("*.*"))
        (file,) = larun.audit(path)
        assert (file.name, file.status) == (path.name, "intact"), file


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        larun.audit(tmp_path / "none.fits")
    with pytest.raises(FileError, match="no product"):
        larun.audit(tmp_path)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_acceptance_37_random_flips_in_a_night_are_found_and_told_apart(contents):
    """Run ``python -m tests.model.flips 10000`` for more of them."""
    told = flips.flips(contents, 2000)
    assert sum(told.values()) == 2000
    assert {verdict.partition(" ")[0] for verdict in told} == {".ecsv", ".fits", ".parquet", ".reg", ".vot"}
    assert told[".fits padding only"] > 100
    assert told[".fits changed"] > 100


def test_acceptance_37_every_byte_of_the_texts(contents):
    """One bit of every byte of the summary and the regions, and of the beginning of a catalogue."""
    for name, content in contents.items():
        if not name.endswith((".reg", "summary.ecsv")):
            continue
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1 << position % 8
            assert audit_bytes(name, bytes(changed)).status == "changed", (name, position)


def test_files_cut_lengthened_mixed_or_filled_with_noise_are_told_and_stop_nothing(contents):
    rng = np.random.default_rng(4)
    kinds = set()
    names = list(contents)
    for number in range(400):
        name = names[number % len(names)]
        content, at = contents[name], int(rng.integers(len(contents[name])))
        noise = rng.integers(0, 256, int(rng.integers(1, 6000)), np.uint8).tobytes()
        block = at // 2880 * 2880
        other = contents[names[int(rng.integers(len(names)))]]
        damaged = {
            0: content[:at],
            1: content + noise,
            2: content[:at] + noise + content[at:],
            3: noise,
            4: content[:at] + other[at:],
            5: content[:block] + content[block + 2880 :],
            6: content[:at] + bytes(len(content) - at),
            7: other[:at] + content[at:],
        }[number // len(names) % 8]
        if damaged in (content, other):
            continue
        verdict = audit_bytes(name, damaged)
        assert verdict.status in ("changed", "unverifiable"), (number, name, verdict)
        assert verdict.reasons
        kinds.add(verdict.status)
    assert kinds == {"changed", "unverifiable"}


def test_damage_is_told_in_a_sentence(copied):
    path = copied / frame_names(copied)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = larun.audit(copied)
    assert not found.good
    (fault,) = [file for file in found.faults if file.name == frame_names(copied)[0]]
    assert str(fault).startswith(f"{fault.name}: changed: ")
    assert "the data were changed after they were written" in str(fault)
    # its catalogues are as they were, and the frame they name cannot be believed any more
    own = [file for file in found if file.name.startswith(f"catalogs/{path.stem}.") and file.kind == "table"]
    assert {file.status for file in own} == {"missing"}
    assert path.name in own[0].reasons[0]
    rest = {file.status for file in found if file not in own and file is not fault}
    assert rest == {"intact"}


def test_what_carries_no_digest_cannot_be_verified(night, tmp_path, contents):
    for name, content in {
        "raw.fits": next((night.parent / "raw").rglob("*.fits")).read_bytes(),
        "own.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n1\n",
        "own.reg": b"# Region file format: DS9 version 4.1\nimage\ncircle(1,2,3)\n",
        "own.xml": b"<?xml version='1.0'?><a/>",
        "own.parquet": b"PAR1" + bytes(100),
        "notes.txt": b"clouds",
        "empty.fits": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        (file,) = larun.audit(tmp_path / name)
        assert (file.status, len(file.reasons)) == ("unverifiable", 1), file
        assert not file.good
    (tmp_path / "damaged.fits.gz").write_bytes(b"\x1f\x8b\x08" + bytes(50))
    (file,) = larun.audit(tmp_path / "damaged.fits.gz")
    assert file.status == "unverifiable"


def test_compressed_as_a_whole_is_still_intact(copied):
    path = copied / frame_names(copied)[0]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert {file.status for file in larun.audit(path.with_name(path.name + ".gz"))} == {"intact"}


# -- forged: digests that are right, made by somebody else -----------------------------------------------------------


def forged(name, content, tmp_path, *, drop=(), **changes):
    """A product whose HDUs were exchanged, sealed again as if larun had written it."""
    path = tmp_path / "in.fits"
    path.write_bytes(content)
    hdus = []
    with path.open("rb") as file:
        for entry in container.layout(file)[0]:
            header, data = container.read_entry(file, entry)
            for keyword in ("DATASUM", "CHECKSUM"):
                del header[keyword]
            cards = "".join(str(card).ljust(80) for card in header.cards)
            change = changes.get(entry.name.replace(",", "_"), lambda cards, data: (cards, data))
            if entry.name not in drop:
                hdus.append(Hdu(entry.name, *change(cards, data)))
    made = tmp_path / f"forged-{len(list(tmp_path.iterdir()))}.fits"
    container.write_hdus(made, hdus)
    return audit_bytes(name, made.read_bytes())


def record_of(data):
    return json.loads(data.tobytes())


def recorded(change):
    """A record that was changed: what ``forged`` puts in the place of PROVENANCE."""

    def exchange(_, data):
        record = record_of(data)
        change(record)
        hdu = container.json_hdu("PROVENANCE", text_of(record))
        return hdu.cards, hdu.data

    return exchange


def test_a_forgery_without_changes_is_intact(contents, tmp_path):
    name = next(name for name in contents if name.startswith("frames/"))
    assert forged(name, contents[name], tmp_path).status == "intact"


def test_a_record_must_follow_from_itself(contents, tmp_path):
    name = next(name for name in contents if name.startswith("frames/"))

    def another_sigma(record):
        record["provenance"]["nodes"][0]["step"]["parameters"]["sigma"] = 3

    verdict = forged(name, contents[name], tmp_path, PROVENANCE=recorded(another_sigma))
    assert verdict.status == "changed"
    assert "does not follow from its own content" in verdict.reasons[0]
    assert verdict.id == ""


def test_a_record_must_fit_the_pixels(contents, tmp_path):
    frame = next(name for name in contents if name.startswith("frames/"))
    master = next(name for name in contents if name.startswith("masters/bias"))
    flat = next(name for name in contents if name.startswith("masters/flat"))
    other = Provenance(root=Root(kind="memory", pixels="00")).to_dict()

    def replaced(old, new):
        return lambda cards, data: (cards.replace(old, new), data)

    for name, changes, word in [
        (frame, {"SCI": replaced("'electron'", "'adu'     ")}, "electron"),
        (frame, {"SHARED_1": replaced("MASTERID= '", "MASTERID= '0")}, "SHARED"),
        (frame, {"PROVENANCE": recorded(lambda record: record.update(provenance=other))}, "SHARED"),
        (master, {"PRIMARY": replaced("MasterBias'", "MasterDark'")}, "master_dark"),
        (flat, {"PRIMARY": replaced("MasterFlat'", "MasterBias'")}, "master_bias"),
        (frame, {"PROVENANCE": recorded(lambda record: record.pop("detector"))}, "detector"),
    ]:
        verdict = forged(name, contents[name], tmp_path, **changes)
        assert verdict.status == "changed", (word, verdict)
        assert word in " ".join(verdict.reasons), verdict


def test_records_of_every_nonsense_are_told_and_stop_nothing(contents, tmp_path):
    name = next(name for name in contents if name.startswith("frames/"))
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    nested = '{"a":' * 5000 + "1" + "}" * 5000
    texts = [
        "",
        "[]",
        "null",
        "1",
        '"text"',
        "{}",
        '{"provenance":null}',
        '{"provenance":{"nodes":[],"head":"x"}}',
        nested,
    ]
    texts += ["[" * 100_000 + "]" * 100_000]
    graph = {"format": 1, "head": "a", "nodes": [{"id": "a", "parents": [["self", "a"]], "environment": {}}]}
    rows = [
        graph,
        {**graph, "nodes": "text"},
        {**graph, "nodes": [{"id": []}]},
        {**graph, "nodes": [{"id": "a", "parents": ["x"], "environment": {}}]},
        {**graph, "nodes": [{"id": "a", "parents": [], "root": {"kind": 1}, "environment": 5}]},
        {**graph, "nodes": [{"id": "a", "parents": [], "step": ["x"], "environment": {}}]},
        {**graph, "head": None},
        {**graph, "format": "x"},
    ]
    texts += [json.dumps({"provenance": row}) for row in rows]
    for text in texts:
        hdu = container.json_hdu("PROVENANCE", text or " ")
        verdict = forged(name, contents[name], tmp_path, PROVENANCE=lambda cards, data, hdu=hdu: (hdu.cards, hdu.data))
        assert verdict.status == "changed", (text[:80], verdict)
        assert len(str(verdict)) < 1000
    for drop in (("PRIMARY",), ("PROVENANCE",), ("SCI",)):
        assert forged(name, contents[name], tmp_path, drop=drop).status in ("changed", "unverifiable"), drop


def test_what_no_id_covers_is_of_the_right_type_or_told(contents, tmp_path):
    """Environment, places and fitted state are not part of an id."""
    name = next(name for name in contents if name.startswith("frames/"))

    def set_to(value, *keys):
        def change(record):
            part = record["provenance"]["nodes"]
            for key in keys[:-1]:
                part = part[key]
            part[keys[-1]] = value

        return recorded(change)

    for value, *keys in [
        (["x"], 0, "environment"),
        ({"numpy": 5}, 0, "environment"),
        ({}, 0, "step", "fitted"),
        (7, -1, "root", "name"),
        ([], -1, "root", "location"),
    ]:
        verdict = forged(name, contents[name], tmp_path, PROVENANCE=set_to(value, *keys))
        assert verdict.status == ("intact" if value == {} else "changed"), (keys, verdict)


def test_a_sealed_table_of_digests_that_makes_no_sense_is_told(contents):
    """Its own digest is right, and its sizes lie."""
    import hashlib

    name = next(name for name in contents if name.startswith("frames/"))
    at = contents[name].rindex(b'{"format"')
    for rows in (
        [{"name": "PRIMARY", "header_bytes": -2880, "data_bytes": 10**30, "header": "", "data": ""}],
        [{"name": "PRIMARY", "header_bytes": 1.5, "data_bytes": 0, "header": "", "data": ""}],
        [{"name": 5, "header_bytes": 0, "data_bytes": 0, "header": None, "data": []}],
        [{"unknown": 1}],
        ["x"],
        7,
        None,
    ):
        body = {"format": 1, "hdus": rows}
        own = hashlib.sha256(text_of(body).encode()).hexdigest()
        text = text_of({**body, "self": own}).encode()
        header = contents[name][:at].rstrip(b" ")
        length = header.rindex(b"NAXIS1  =")
        header = contents[name][:length] + b"NAXIS1  = %20d" % len(text) + contents[name][length + 30 : at]
        assert audit_bytes(name, header + text).status == "changed", rows
    body = {"format": 9, "hdus": "of another kind"}
    text = text_of({**body, "self": hashlib.sha256(text_of(body).encode()).hexdigest()}).encode()
    header = contents[name][:length] + b"NAXIS1  = %20d" % len(text) + contents[name][length + 30 : at]
    verdict = audit_bytes(name, header + text)
    assert verdict.status == "unverifiable"
    assert "install a newer larun" in verdict.reasons[0]


def test_a_newer_format_cannot_be_verified(contents, tmp_path):
    name = next(name for name in contents if name.startswith("frames/"))

    def newer(cards, data):
        at = cards.index("LARUNFMT=")
        return cards[:at] + "LARUNFMT=                    7".ljust(80) + cards[at + 80 :], data

    verdict = forged(name, contents[name], tmp_path, PRIMARY=newer)
    assert (verdict.status, "newer" in verdict.reasons[0]) == ("unverifiable", True)
    record = recorded(lambda record: record["provenance"].update(format=9))
    verdict = forged(name, contents[name], tmp_path, PROVENANCE=record)
    assert (verdict.status, "newer" in verdict.reasons[0]) == ("unverifiable", True)


# -- what products were made from -------------------------------------------------------------------------------------


def test_a_master_that_is_gone_is_missing_where_masters_are_expected(copied):
    flat = next((copied / "masters").glob("flat-V*"))
    flat.unlink()
    found = larun.audit(copied)
    touched = {file.name for file in found if file.status == "missing"}
    assert touched
    assert all("-V-" in name for name in touched)
    assert all(file.status in ("missing", "intact") for file in found)
    reasons = next(file.reasons for file in found if file.name in touched)
    assert any("flat master" in reason for reason in reasons)
    alone = copied.parent / "alone"
    alone.mkdir()
    path = shutil.copy(copied / frame_names(copied)[0], alone)
    assert [file.status for file in larun.audit(path)] == ["intact"]  # nothing says that masters should lie there
    assert [file.status for file in larun.audit(path, raw=[alone])] == ["missing"]


def test_raw_files_are_found_by_what_is_in_them_wherever_they_lie(night, copied, tmp_path):
    raw, moved = night.parent / "raw", tmp_path / "moved" / "deep"
    moved.mkdir(parents=True)
    assert larun.audit(copied, raw=raw).good
    for number, path in enumerate(sorted(raw.rglob("*.fits"))):
        content = path.read_bytes()
        if number % 2:
            (moved / f"{number}.fits.gz").write_bytes(gzip.compress(content))
        else:
            (moved / f"{number}.fits").write_bytes(content)
    found = larun.audit(copied, raw=[moved.parent])
    assert found.good, found.faults
    assert len(list(moved.iterdir())) == len(list(raw.rglob("*.fits")))


def test_raw_files_that_are_gone_or_changed_are_missing(night, copied, tmp_path):
    raw = shutil.copytree(night.parent / "raw", tmp_path / "raw")
    frame = frame_names(copied)[0]
    own = larun.Frame.read(copied / frame).provenance.name
    science = next(raw.rglob(own))
    with fits.open(science, mode="update") as hdus:
        hdus[0].data[5, 5] += 1
    found = larun.audit(copied, raw=raw)
    stem = frame.partition("/")[2].removesuffix(".fits")
    wrong = {file.name: file for file in found if not file.good}
    assert {name.partition("/")[2].partition(".")[0] for name in wrong} == {stem}
    assert {file.status for file in wrong.values()} == {"missing"}
    assert own in wrong[frame].reasons[0]
    for path in raw.rglob("*bias*.fits"):
        path.unlink()
    found = larun.audit(copied, raw=raw)
    bias = next(file for file in found if file.name.startswith("masters/bias"))
    assert bias.status == "missing"
    assert bias.reasons[0].startswith("raw file bias-")
    assert "; nor are 3 others: " in bias.reasons[0]
    assert larun.audit(copied).good  # nobody asked for raw files


def test_masters_of_other_nights_are_found_where_they_are_said_to_be(copied):
    flat = next((copied / "masters").glob("flat-V*"))
    other = copied.parent / "other"
    other.mkdir()
    flat.rename(other / "renamed.fits")
    assert not larun.audit(copied).good
    raws = [copied.parent / "raw"]
    raws[0].mkdir()
    found = larun.audit(copied, raw=[other, *raws])
    assert not any("flat master" in reason for file in found for reason in file.reasons)


def test_products_of_masters_that_were_made_again_are_stale(night, copied):
    with pytest.warns(larun.errors.LarunWarning):
        larun.Night(night.parent / "raw").masters(copied / "masters", recipe=larun.Recipe(flat={"sigma": 4.0}))
    found = larun.audit(copied)
    assert {file.status for file in found if file.name.startswith("masters/")} == {"intact"}
    stale = [file for file in found if file.status == "stale"]
    assert {file.name for file in stale} >= set(frame_names(copied))
    assert "was made again since, as masters/flat-" in stale[0].reasons[0]
    assert not found.good


def test_a_catalogue_of_a_frame_that_was_made_again_is_stale(night, copied):
    name = frame_names(copied)[0]
    path = copied / name
    frame = larun.Frame.read(path)
    masters = larun.Masters.read(copied / "masters")
    raw = larun.Frame.read(next((night.parent / "raw").rglob(frame.provenance.name)))
    raw.calibrate(masters).write(path, overwrite=True)
    found = larun.audit(copied)
    assert statuses(found)[name] == "intact"
    own = [file for file in found if file.name.startswith(f"catalogs/{path.stem}.") and file.kind == "table"]
    assert {file.status for file in own} == {"stale"}
    assert name in own[0].reasons[0]
    path.unlink()
    again = larun.audit(copied)
    assert {file.status for file in again if file.name in {file.name for file in own}} == {"missing"}


# -- what has changed around them ------------------------------------------------------------------------------------


def test_versions_are_notes_and_no_fault(night, monkeypatch):
    import attrs

    from larun.model.auditing import versions

    known = OPERATIONS["clean"]
    monkeypatch.setitem(OPERATIONS, "clean", attrs.evolve(known, version=known.version + 1))
    monkeypatch.delitem(OPERATIONS, "calibrate")
    monkeypatch.setattr(versions, "environment", lambda: {**larun.provenance.environment(), "numpy": "9.9"})
    found = larun.audit(night)
    assert found.good
    notes = " ".join(found.notes)
    assert f"made by version {known.version} of clean, here is {known.version + 1}" in notes
    assert "operation 'calibrate' is not known here" in notes
    assert "(here 9.9)" in notes


def test_a_record_may_tell_of_operations_of_other_people(tmp_path):
    frame = larun.Frame.from_arrays(np.ones((8, 9)), gain=1.0)
    step = Step(operation="[red]odd\x1b[31m", parameters={})
    from larun.provenance import Parent

    made = frame._replace(provenance=Provenance(step=step, parents=(Parent("self", frame.provenance),)))
    (file,) = larun.audit(made.write(tmp_path / "a.fits"))
    assert file.status == "intact"
    assert any("is not known here" in note for note in file.notes)


def test_verdicts_are_ordered_from_the_worst():
    assert STATUSES[0] == "changed"
    assert STATUSES[-1] == "intact"


# -- windows computed again ------------------------------------------------------------------------------------------


def test_windows_of_an_intact_night_are_what_the_raw_files_give(night):
    found = larun.audit(night, raw=night.parent / "raw", spot=12, seed=1)
    assert found.good
    told = {file.name: file.notes for file in found if file.notes}
    assert told  # every image has its turn
    assert all("bit for bit" in note for notes in told.values() for note in notes)
    assert sum(int(notes[0].split()[0]) for notes in told.values()) == 12


def test_a_product_that_was_changed_and_sealed_anew_is_found_by_its_windows(night, copied):
    name = frame_names(night)[0]
    frame = larun.Frame.read(copied / name)
    data = frame.data.copy()
    data[::16, ::16] += 1000.0  # somebody adds stars
    frame._replace(data=data).write(copied / name, overwrite=True)
    assert larun.audit(copied).good  # no digest can tell
    found = larun.audit(copied, raw=night.parent / "raw", spot=20, seed=1)
    assert {file.name for file in found.faults} == {name}
    assert "is not what the raw files give: data" in str(found.faults[0])


def test_windows_without_raw_files_are_told_and_no_fault(copied, tmp_path):
    (tmp_path / "empty").mkdir()
    found = larun.audit(copied / frame_names(copied)[0], raw=tmp_path / "empty", spot=1)
    (file,) = found
    assert file.status == "missing"
    assert any("no window was computed again" in note for note in file.notes)
    with pytest.raises(OptionError, match="spot=-1"):
        larun.audit(copied, spot=-1)
