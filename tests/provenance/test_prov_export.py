"""The record as W3C PROV, there and back."""

import json
import subprocess
import sys

import numpy as np
import pytest

import larun
from larun.errors import CorruptProduct
from larun.provenance import Step
from larun.provenance.prov_export import LARUN, VOPROV, from_prov, prov_json
from tests.provenance.records import Night, made, raw

model = pytest.importorskip("prov.model")
HOSTILE = 'a "b" <c> \\ \n\x1b é 星 %$'


def without_places(record):
    plain = record.to_dict()
    for node in plain["nodes"]:
        if "root" in node:
            node["root"]["location"] = ""
    return {**plain, "nodes": sorted(plain["nodes"], key=lambda node: node["id"])}


def records():
    counts = np.random.default_rng(1).poisson(300, (32, 32))
    frame = larun.Frame.from_arrays(counts, gain=2.0, read_noise=4.0, header={"OBJECT": "M 13"})
    inner = Step(operation="crop", parameters={"x": [0, 9]}, fitted={"a": 1}, substeps=(Step(operation="bin"),))
    yield Night(dark=True, given={"GAIN": 1.8}).catalog()
    yield Night().stack(3)
    yield raw("d1.fits", location="/home/somebody/d1.fits[1]")
    yield (frame - frame).provenance  # the same input twice
    yield made("pipe", ("self", raw("d1.fits")), substeps=[inner, inner], positions=np.zeros((3, 2)))
    yield made(HOSTILE, (HOSTILE, raw(HOSTILE)), fitted={HOSTILE: HOSTILE}, **{HOSTILE: [HOSTILE, None, True, 1e300]})


@pytest.mark.parametrize("number", range(6))
def test_a_record_comes_back_whole_with_every_id_computed_again(number):
    record = list(records())[number]
    text = prov_json(record)
    document = model.ProvDocument.deserialize(content=text, format="json")
    assert document == record.to_prov()
    back = from_prov(document)
    assert back.id == record.id
    assert without_places(back) == without_places(record)
    assert prov_json(back) == text
    assert text.isascii()


def test_nothing_personal_is_exported():
    text = prov_json(made("clean", ("self", raw("d1.fits", location="/home/somebody/d1.fits[1]"))))
    assert "somebody" not in text
    assert "d1.fits" in text


def test_the_terms_are_those_of_the_ivoa_data_model():
    record = Night().frame()
    document = json.loads(prov_json(record))
    assert document["prefix"]["larun"] == LARUN
    assert document["prefix"]["voprov"] == VOPROV
    kinds = [entity["prov:type"]["$"] for entity in document["entity"].values()]
    assert set(kinds) == {"voprov:DatasetEntity", "voprov:ActivityDescription", "voprov:Parameter"}
    assert kinds.count("voprov:DatasetEntity") == 11  # 7 raw files, 2 masters, calibrated, clean
    assert kinds.count("voprov:ActivityDescription") == 4
    step = f"larun:{record.id}-step"
    (usage,) = (row for row in document["used"].values() if row["prov:activity"] == step)
    assert usage["prov:role"] == "self"
    settings = [row for row in document["wasInfluencedBy"].values() if row["prov:influencee"] == step]
    assert sorted(row["prov:type"]["$"] for row in settings) == [
        "voprov:ConfigurationRelation",
        "voprov:ConfigurationRelation",
        "voprov:DescriptionRelation",
    ]
    assert {row["prov:role"] for row in document["used"].values()} == {"self", "bias", "flat", "frame"}
    (agent,) = document["agent"].values()
    assert (agent["voprov:name"], agent["voprov:version"]) == ("larun", record.environment["larun"])
    assert len(document["wasDerivedFrom"]) == len(document["used"])


@pytest.mark.parametrize("place", ["pixels", "value", "role", "version"])
def test_a_document_that_was_changed_is_refused(place):
    document = json.loads(prov_json(Night().frame()))
    entities = document["entity"]
    if place == "pixels":
        next(row for row in entities.values() if "larun:pixels" in row)["larun:pixels"] = "0" * 64
    elif place == "value":
        next(row for row in entities.values() if row.get("prov:value") == "4.5")["prov:value"] = "5"
    elif place == "role":
        next(row for row in document["used"].values() if row["prov:role"] == "bias")["prov:role"] = "dark"
    else:
        next(row for row in entities.values() if row.get("voprov:name") == "clean")["voprov:version"] = 9
    changed = model.ProvDocument.deserialize(content=json.dumps(document), format="json")
    with pytest.raises(CorruptProduct, match=r"x\.json.*does not follow"):
        from_prov(changed, "x.json")


def test_other_documents_hold_no_record():
    with pytest.raises(CorruptProduct, match="holds no record of larun"):
        from_prov(model.ProvDocument())


def test_without_the_package_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['prov'] = None\n"
        "from larun.errors import MissingExtra\n"
        "from larun.provenance import Provenance, Root\n"
        "try: Provenance(root=Root(kind='memory', pixels='00')).to_prov()\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "larun[prov]" in done.stdout
