"""Seals: one head for a folder, whatever its files are called, and every difference by name."""

import json
import os

import numpy as np
import pytest

from larun.errors import CorruptProduct, FileError, OptionError
from larun.io.seal import Seal, merkle_head


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "out"
    for name in ("summary.ecsv", "frames/a.fits", "frames/b.fits", "notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    return out


# Leaves and roots of the test of Certificate Transparency's reference implementation (google/certificate-transparency,
# merkletree/merkle_tree_test), which RFC 6962 describes.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_head_is_the_tree_hash_of_the_standard():
    leaves = [bytes.fromhex(leaf) for leaf in LEAVES]
    for count, root in enumerate(ROOTS, 1):
        assert merkle_head(leaves[:count]) == root


def test_a_seal_depends_on_names_and_bytes_alone(folder, tmp_path):
    seal = Seal.of(folder)
    copy = tmp_path / "elsewhere"
    for name in sorted((path for path in folder.rglob("*") if path.is_file()), reverse=True):  # in another order
        target = copy / name.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(name.read_bytes())
        os.utime(target, (1, 1))
    assert Seal.of(copy).head == seal.head
    first, second = seal.write(tmp_path / "a.json"), Seal.of(copy).write(tmp_path / "b.json")
    assert first.read_bytes() == second.read_bytes()
    again = Seal.read(first)
    assert again == seal
    assert again.head == json.loads(first.read_text())["head"]
    assert [file.name for file in again.files] == ["frames/a.fits", "frames/b.fits", "notes.txt", "summary.ecsv"]
    assert again.compare(folder).good


def test_what_was_added_removed_and_changed_is_named(folder):
    seal = Seal.of(folder)
    (folder / "notes.txt").unlink()
    (folder / "frames" / "c.fits").write_text("new")
    (folder / "frames" / "a.fits").write_text("frames/A.fits")  # of the same size
    found = seal.compare(folder)
    assert (found.added, found.removed, found.changed) == (("frames/c.fits",), ("notes.txt",), ("frames/a.fits",))
    assert not found.good
    assert found.head == seal.head
    assert str(found) == "4 files under the seal: 1 added, 1 removed, 1 changed"
    assert found.to_dict()["good"] is False


def test_any_difference_of_a_file_changes_the_head(folder):
    head = Seal.of(folder).head
    path = folder / "frames" / "a.fits"
    content = path.read_bytes()
    for changed in (content + b"\0", content[:-1], b"", bytes([content[0] ^ 1]) + content[1:]):
        path.write_bytes(changed)
        assert Seal.of(folder).head != head
    path.write_bytes(content)
    path.rename(folder / "frames" / "a.fit")
    assert Seal.of(folder).head != head


def test_names_are_hostile(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    names = [b"--raw", b"a\nb.fits", b"\xff\xfe.fits", "ä 🜨.fits".encode(), b'"},{"', b"\x1b[31mred", b"a", b"a.b"]
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_bytes(bytes([number]))
    seal = Seal.of(folder)
    path = seal.write(tmp_path / "seal.json")
    assert path.read_bytes().isascii()
    assert b"\x1b" not in path.read_bytes()
    assert len(seal.files) == len(names)
    again = Seal.read(path)
    assert again == seal
    assert again.compare(folder).good
    (folder / os.fsdecode(b"\xff\xfe.fits")).unlink()
    (lost,) = again.compare(folder).removed
    assert os.fsencode(lost) == b"\xff\xfe.fits"


def test_hidden_files_links_to_folders_and_pipes_are_left_out(folder, tmp_path):
    head = Seal.of(folder).head
    (folder / ".hidden").write_text("x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.fits").write_text("x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.fits").write_text("x")
    (folder / "link").symlink_to(elsewhere)
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    assert Seal.of(folder).head == head


def test_a_seal_lies_outside_and_is_never_replaced(folder, tmp_path):
    seal = Seal.of(folder)
    for name in ("night.fits", "night"):
        with pytest.raises(OptionError, match=r"end its name in \.json"):
            seal.write(tmp_path / name)
    (tmp_path / "link").symlink_to(folder)
    for inside in (folder / "seal.json", folder / "frames" / "seal.json", tmp_path / "link" / "seal.json"):
        with pytest.raises(OptionError, match="outside"):
            seal.write(inside)
        assert not inside.exists()
    seal.write(tmp_path / "seal.json")
    with pytest.raises(FileError, match="never replaced"):
        seal.write(tmp_path / "seal.json")
    with pytest.raises(FileError, match="does not exist"):
        seal.write(tmp_path / "no" / "seal.json")
    with pytest.raises(FileError, match="no such folder"):
        Seal.of(tmp_path / "nothing")


def test_a_seal_that_was_changed_is_refused(folder, tmp_path):
    path = Seal.of(folder).write(tmp_path / "seal.json")
    content = path.read_bytes()
    rng = np.random.default_rng(6)
    told = set()
    for _ in range(500):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            again = Seal.read(path)
        except FileError as error:
            told.add(type(error))
        else:  # what says nothing of a file: white space, who made it
            assert again.head == Seal.of(folder).head
    assert told == {FileError, CorruptProduct}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"format": 1}', '{"format": 9}', '{"format": "x", "files": {}, "head": ""}', "[" * 10**5,
     '{"format": 1, "files": [], "head": ""}', '{"format": 1, "files": {"a": 1}, "head": ""}',
     '{"format": 1, "files": {"a": {"bytes": 1.5, "sha256": "x"}}, "head": ""}',
     '{"format": 1, "files": {}, "head": 1}'],
)  # fmt: skip
def test_what_is_no_seal_is_refused(tmp_path, text):
    (tmp_path / "seal.json").write_text(text)
    with pytest.raises(FileError, match=r"seal\.json"):
        Seal.read(tmp_path / "seal.json")


def test_a_missing_seal_is_told(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        Seal.read(tmp_path / "seal.json")
