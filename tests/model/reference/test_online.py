"""A stand-in for astroquery, with the calls and tables of the real one; there is no network in tests."""

import sys
import time
import types

import numpy as np
import pytest
from astropy.table import Table

import larun
from larun.errors import FileError, MissingExtra, OptionError
from tests.model.photometry.conftest import catalog_of, make_field
from tests.model.reference.test_opening import gaia

OPEN = larun.ReferenceCatalog.open


class Service:
    """What was asked, and what is answered."""

    def __init__(self):
        self.asked = []
        self.answer = None
        self.wait = 0.0

    def reply(self, question):
        self.asked.append(question)
        time.sleep(self.wait)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def network(monkeypatch):
    service = Service()

    class Job:
        def __init__(self, found):
            self.get_results = lambda: found

    class Gaia:
        @staticmethod
        def launch_job_async(text):
            return Job(service.reply(text))

    class Vizier:
        def __init__(self, *, columns, row_limit, timeout):
            self.how = (columns, row_limit, timeout)

        def query_region(self, place, *, radius, catalog):
            found = service.reply((place.ra.deg, place.dec.deg, radius.to_value("deg"), catalog, *self.how))
            return [found] if found is not None else []

    modules = {"astroquery": {"__version__": "0.4.fake"}, "astroquery.gaia": {"Gaia": Gaia}}
    modules["astroquery.vizier"] = {"Vizier": Vizier}
    for name, contents in modules.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return service


def test_gaia_is_asked_once_and_then_read_from_the_disk(network, tmp_path):
    network.answer = gaia()
    stars = OPEN("gaia", cache=tmp_path / "kept", faintest=19).cone(0.01, 0.02, 0.5)
    expected = OPEN(gaia()).cone(0.01, 0.02, 0.5).ordered()
    assert len(stars) == len(expected) > 20
    for name in expected.columns:
        assert np.array_equal(stars[name], expected[name])
    assert stars.systems == {"G": "Vega", "BP": "Vega"}
    (text,) = network.asked
    assert "FROM gaiadr3.gaia_source" in text
    assert "CIRCLE('ICRS', 0.0, 0.0, 0.55)" in text
    assert "phot_g_mean_mag < 19.0" in text
    network.answer = RuntimeError("no network any more")
    again = OPEN("gaia", cache=tmp_path / "kept", faintest=19).cone(0.01, 0.02, 0.5)
    assert (again.digest, len(again)) == (stars.digest, len(stars))
    assert np.array_equal(again["id"], stars["id"])
    near = OPEN("gaia", cache=tmp_path / "kept", faintest=19).cone(0.0, 0.0, 0.49)  # the same question
    assert 0 < len(near) <= len(stars) + 10
    assert len(network.asked) == 1
    with pytest.raises(FileError, match="no network any more"):
        OPEN("gaia", cache=tmp_path / "kept").cone(0.01, 0.02, 0.5)  # another question


def test_what_is_kept_has_the_same_bytes_whatever_the_order_of_rows(network, tmp_path):
    kept = []
    for number, rows in enumerate((slice(None), slice(None, None, -1))):
        network.answer = gaia()[rows]
        OPEN("gaia", cache=tmp_path / str(number)).cone(0, 0, 0.5)
        (path,) = (tmp_path / str(number)).iterdir()
        kept.append((path.name, path.read_bytes()))
    assert kept[0] == kept[1]


def test_vizier_and_its_short_names(network, tmp_path):
    network.answer = Table(
        {"RAJ2000": [359.9, 0.1], "DEJ2000": [0.0, 0.1], "Jmag": [12.0, 13.0], "e_Jmag": [0.02, 0.03]}
    )
    found = OPEN("vizier:II/246", cache=tmp_path, timeout=30).cone(-0.01, 0.0, 0.3)
    assert (len(found), found.bands, found.systems) == (2, ("J",), {"J": "Vega"})
    assert found.name == "vizier:II/246"
    assert network.asked[0][:3] == pytest.approx((0.0, 0.0, 0.35))
    assert network.asked[0][3:] == ("II/246", ["*"], -1, 30.0)
    OPEN("2mass", cache=tmp_path).cone(0.0, 0.0, 0.3)
    assert network.asked[1][3] == "II/246"
    network.answer = None
    with pytest.raises(FileError, match=r"no star within 0\.35 degrees, or is no catalogue"):
        OPEN("vizier:X/1", cache=tmp_path).cone(10.0, 0.0, 0.3)
    network.answer = Table({"RAJ2000": [0.0], "DEJ2000": [0.0], "pmRA": [5.0], "pmDE": [1.0], "Gmag": [12.0]})
    assert OPEN("refcat2", cache=tmp_path).cone(0, 0, 0.1)["epoch"].value == 2015.5


def test_a_service_that_hangs_is_not_waited_for(network, tmp_path):
    network.wait, network.answer = 3.0, gaia()
    started = time.perf_counter()
    with pytest.raises(FileError, match=r"gaia around RA 10, Dec -5: no answer within 0.1 s: .*local catalogue"):
        OPEN("gaia", cache=tmp_path, timeout=0.1).cone(10, -5, 0.1)
    assert time.perf_counter() - started < 2
    assert not list(tmp_path.iterdir())


def test_without_the_extra_or_with_senseless_words_it_is_told(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "astroquery", None)
    with pytest.raises(MissingExtra, match=r"larun\[online\]"):
        OPEN("gaia", cache=tmp_path).cone(0, 0, 0.1)
    with pytest.raises(OptionError, match="vizier:II/246"):
        OPEN("vizier:../../etc; rm")
    with pytest.raises(OptionError, match="no option cash"):
        OPEN("gaia", cash=tmp_path)
    with pytest.raises(OptionError, match="only for 'gaia'"):
        OPEN("2mass", faintest=15)
    with pytest.raises(OptionError, match="timeout=-1"):
        OPEN("gaia", timeout=-1)


def test_what_was_kept_and_is_damaged_is_not_believed(network, tmp_path):
    network.answer = gaia()
    OPEN("gaia", cache=tmp_path).cone(0, 0, 0.5)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"{path.name} .*delete it"):
        OPEN("gaia", cache=tmp_path).cone(0, 0, 0.5)


def test_a_zero_point_by_gaia_replays_without_it(network, tmp_path):
    table, known = make_field()
    answer = gaia(len(known))
    answer["ra"], answer["dec"] = known["ra"].value, known["dec"].value
    answer["pmra"] = answer["pmdec"] = answer["parallax"] = 0.0
    answer["phot_variable_flag"] = "CONSTANT"
    answer["phot_g_mean_mag"] = known["mag_g"].value
    network.answer = answer
    reference = OPEN("gaia", cache=tmp_path)
    found = catalog_of(table).zero_point(reference, band="G")
    assert found.system == "Vega"
    assert found.value == pytest.approx(25.3, abs=0.01)
    network.answer = RuntimeError("offline")
    assert catalog_of(table).zero_point(reference, band="G").provenance.id == found.provenance.id
    assert found.provenance.step.parameters["reference"]["about"]["name"] == "gaia"
