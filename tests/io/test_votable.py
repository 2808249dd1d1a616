"""VOTable catalogues are valid, say what their columns mean, and open in other programs."""

import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy import units as u
from astropy.io.votable import parse, validate
from astropy.io.votable.ucd import check_ucd
from astropy.table import QTable, Table

from larun.errors import FileError
from larun.io.flat import same_table
from larun.io.tables import read_table, verify_table, write_table
from larun.io.votable import UCDS, ucd_of
from larun.model.measure import schema
from tests.io.test_tables import RECORD, catalogue, every_type


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "stars.vot", catalogue(), RECORD)
    return tmp_path / "stars.vot"


@pytest.mark.parametrize(
    "table",
    [catalogue(), catalogue()[:0], every_type(), every_type(0)],
    ids=["plain", "plain, no rows", "every type", "every type, no rows"],
)
def test_astropys_validator_finds_nothing(tmp_path, table):
    write_table(tmp_path / "a.vot", table, RECORD)
    assert "found no violations" in validate(str(tmp_path / "a.vot"), output=None)
    assert parse(tmp_path / "a.vot").version == "1.4"


def test_other_programs_read_it(path):
    table = Table.read(path)
    assert table.colnames == catalogue().colnames
    np.testing.assert_array_equal(table["flags"], catalogue()["flags"])  # unsigned 32 bits as long
    np.testing.assert_array_equal(np.asarray(table["flux"])[1:], catalogue()["flux"].value[1:])
    assert table["name"].tolist() == catalogue()["name"].tolist()
    assert table["ra"].unit == u.deg
    assert str(table["flux"].unit) == "electron"
    assert table["flux"].description == "sum within the aperture"
    held = parse(path).get_first_table()
    assert {item.name: item.value for item in held.params} == {"radius": 5.0}


def test_what_the_types_become(tmp_path):
    write_table(tmp_path / "a.vot", every_type(), RECORD)
    fields = {field.name: field for field in parse(tmp_path / "a.vot").get_first_table().fields}
    assert {name: fields[f"k_{name}"].datatype for name in ("i1", "u1", "u2", "u4", "u8_small", "f4", "?")} == {
        "i1": "short",
        "u1": "unsignedByte",
        "u2": "int",
        "u4": "long",
        "u8_small": "long",
        "f4": "float",
        "?": "boolean",
    }
    assert fields["k_u8"].datatype == "char"  # beyond the largest long
    assert fields["pair"].arraysize == "2"
    assert str(fields["rate/second 1"].unit) == "electron / s"
    other = Table.read(tmp_path / "a.vot")
    assert [int(value) for value in other["k_u8"]] == every_type()["k_u8"].tolist()
    np.testing.assert_array_equal(other["k__"], every_type()["k_?"])
    np.testing.assert_array_equal(other["pair"], every_type()["pair"])


def test_every_bit_of_a_number_is_kept(tmp_path):
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8DEADBEEF0001, 1, 0x8000000000000000], np.uint64)
    write_table(tmp_path / "a.vot", QTable({"value": bits.view(float)}), {})
    again, _ = read_table(tmp_path / "a.vot")
    assert np.asarray(again["value"]).view(np.uint64).tolist() == bits.tolist()


def test_descriptors_are_those_of_the_vocabulary_and_cover_the_schema():
    for word in UCDS.values():
        assert check_ucd(word, check_controlled_vocabulary=True), word
    columns = [column for _, group in schema.GROUPS for column in group]
    assert len(columns) > 25
    assert not {column.name for column in columns} - set(UCDS)
    assert ucd_of("aperture_flux_error_3") == "stat.error;phot.count"
    assert ucd_of("anything") is None


def test_hostile_names_and_texts_stay_inside_their_quotes(tmp_path):
    names = ['"/><x y="', "a&b", "<b>", "1", "α", "_1", "tab\there", "null\0", "a b", "a_b", "]]>"]
    table = QTable({name: [float(number)] for number, name in enumerate(names)})
    table["text"] = ["\ud7ff& <\u2028 𝛼 \x01"]
    table.meta = {name: name for name in names}
    for name in names:
        table[name].info.description = name + "]]></DESCRIPTION>"
    write_table(tmp_path / "a.vot", table, {"note": "]]></INFO>\0"})
    again, record = read_table(tmp_path / "a.vot")
    assert same_table(again, table)
    assert record == {"note": "]]></INFO>\0"}
    assert "found no violations" in validate(str(tmp_path / "a.vot"), output=None)
    tree = ElementTree.parse(tmp_path / "a.vot")
    assert sum(item.tag.endswith("}FIELD") for item in tree.iter()) == len(names) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Table.read(tmp_path / "a.vot").colnames) == len(names) + 1


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("adu", "adu"),
        ("electron", "'electron'"),
        ("electron / s", "'electron'.s**-1"),
        ("pix", "pixel"),
        ("mag", "mag"),
        ("adu**2", "adu**2"),
        ("1e-3 Jy", "0.001Jy"),
        ("Angstrom", "Angstrom"),
    ],
)
def test_units_are_in_the_words_of_vounits(tmp_path, unit, text):
    write_table(tmp_path / "a.vot", QTable({"a": [1.0] * u.Unit(unit)}), {})
    root = ElementTree.parse(tmp_path / "a.vot")
    field = next(item for item in root.iter() if item.tag.endswith("}FIELD"))
    assert field.get("unit") == text
    assert "found no violations" in validate(str(tmp_path / "a.vot"), output=None)
    assert read_table(tmp_path / "a.vot")[0]["a"].unit == u.Unit(unit)


def test_every_suffix_of_votables_serves(tmp_path, path):
    for name in ("a.xml", "a.votable", "A.VOT"):
        write_table(tmp_path / name, catalogue(), RECORD)
        assert (tmp_path / name).read_bytes() == path.read_bytes()
        assert same_table(read_table(tmp_path / name)[0], catalogue())


def test_other_line_endings_are_no_damage(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert verify_table(path) == []
    assert same_table(read_table(path)[0], catalogue())


def test_xml_that_is_no_votable(tmp_path):
    (tmp_path / "page.xml").write_text('<?xml version="1.0"?><page>larun</page>')
    for verify in (True, False):
        with pytest.raises(FileError, match=r"page\.xml"):
            read_table(tmp_path / "page.xml", verify=verify)


def test_a_description_with_another_line_end_is_no_damage(tmp_path):
    table = QTable({"a": [1.0]})
    table["a"].info.description = "one\r\ntwo\rthree"
    write_table(tmp_path / "a.vot", table, {})
    assert read_table(tmp_path / "a.vot")[0]["a"].info.description == "one\r\ntwo\rthree"
