"""The record as W3C PROV, in the terms of the IVOA Provenance Data Model.

==========================  ===========================================================================================
of the record               in the document
==========================  ===========================================================================================
a node                      ``prov:entity`` ``larun:<id>``, ``voprov:DatasetEntity``
what a root holds           its attributes ``larun:pixels``, ``larun:header``, ``larun:given`` …; ``voprov:name``
a step                      ``prov:activity`` ``larun:<id>-step``; ``wasGeneratedBy`` leads to it
a step called inside        an activity of its own with ``dcterms:isPartOf``
operation and version       ``voprov:ActivityDescription``, ``wasInfluencedBy`` it (``voprov:DescriptionRelation``)
a parameter                 ``voprov:Parameter``, ``wasInfluencedBy`` it (``voprov:ConfigurationRelation``)
a parent and its role       ``used`` with ``prov:role``, and ``wasDerivedFrom``
a fitted value              ``voprov:ValueEntity`` with ``wasGeneratedBy`` of its activity
versions, processor         ``prov:SoftwareAgent``, by ``wasAssociatedWith`` (steps), ``wasAttributedTo`` (raw inputs)
==========================  ===========================================================================================

Values are canonical JSON (:mod:`larun.provenance.canonical`), so that the record comes back whole and every id can be
computed again. Only where a file lay is left out: paths name people and machines.

References: Moreau & Missier (eds.) 2013, PROV-DM, W3C Recommendation; Servillat et al. 2020, IVOA Provenance Data Model
1.0, IVOA Recommendation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from larun.errors import CorruptProduct, MissingExtra
from larun.provenance.canonical import digest_of, text_of
from larun.provenance.record import FORMAT, Provenance

if TYPE_CHECKING:
    from prov.model import ProvDocument

    from larun.provenance.record import Root, Step

__all__ = ["LARUN", "VOPROV", "from_prov", "prov_json", "to_prov"]

#: Namespace of ids, which are digests: the same step of the same inputs has the same name everywhere.
LARUN = "urn:larun:record:"
#: Namespace of the terms of the IVOA Provenance Data Model, as its serialisations use it.
VOPROV = "http://www.ivoa.net/documents/ProvenanceDM/index.html#"
_DCTERMS = "http://purl.org/dc/terms/"

_ROOT = ("kind", "pixels", "header", "instrument", "detector")


def _model() -> Any:
    try:
        from prov import model
    except ImportError as error:
        raise MissingExtra("prov", "prov") from error
    return model


def prov_json(record: Provenance) -> str:
    """A record as PROV-JSON text: ASCII, the same for equal records.

    Raises
    ------
    MissingExtra
        If the package prov is not installed.
    """
    text = to_prov(record).serialize(format="json")
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def to_prov(record: Provenance) -> ProvDocument:
    """A record as a document of the package prov.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    return _Writer(record).document


class _Writer:
    """A document that grows node by node."""

    def __init__(self, record: Provenance) -> None:
        self.model = _model()
        self.document = self.model.ProvDocument()
        self.larun = self.document.add_namespace("larun", LARUN)
        self.voprov = self.document.add_namespace("voprov", VOPROV)
        self.dcterms = self.document.add_namespace("dcterms", _DCTERMS)
        self.prov = self.model.PROV
        self.known: set[str] = set()
        for node in record.walk():
            extra = {self.larun["format"]: FORMAT} if node is record else {}
            agent = self.agent(node.environment)
            if node.root is not None:
                self.root(node.id, node.root, extra)
                self.document.wasAttributedTo(self.larun[node.id], agent, self.larun[f"{node.id}-by"])
            elif node.step is not None:
                self.made(node, agent, extra)

    def entity(self, identity: str, kind: str, label: str, extra: Mapping[Any, Any]) -> Any:
        name = self.larun[identity]
        about = {self.prov["type"]: self.voprov[kind], self.prov["label"]: label, self.voprov["name"]: label}
        self.document.entity(name, {**about, **extra})
        return name

    def root(self, identity: str, root: Root, extra: Mapping[Any, Any]) -> None:
        facts = root.to_dict()
        values = {self.larun[key]: facts[key] for key in _ROOT}
        self.entity(identity, "DatasetEntity", root.name, {**values, self.larun["given"]: text_of(root.given), **extra})

    def made(self, node: Provenance, agent: Any, extra: Mapping[Any, Any]) -> None:
        step = node.step
        assert step is not None
        entity = self.entity(node.id, "DatasetEntity", f"result of {step.operation}", extra)
        activity = self.activity(f"{node.id}-step", step, agent, {})
        born = self.larun[f"{node.id}-generation"]
        self.document.wasGeneratedBy(entity, activity, identifier=born)
        for number, parent in enumerate(node.parents):
            source, usage = self.larun[parent.provenance.id], self.larun[f"{node.id}-usage-{number}"]
            about = {self.prov["role"]: parent.role, self.larun["order"]: number}
            self.document.used(activity, source, identifier=usage, other_attributes=about)
            derivation = self.larun[f"{node.id}-derivation-{number}"]
            self.document.wasDerivedFrom(entity, source, activity, born, usage, derivation)

    def activity(self, identity: str, step: Step, agent: Any, extra: Mapping[Any, Any]) -> Any:
        """A step, with what configured it, what it fitted and what it called."""
        name = self.larun[identity]
        about = {self.prov["label"]: step.operation, self.voprov["name"]: step.operation}
        self.document.activity(name, other_attributes={**about, self.larun["reach"]: step.reach, **extra})
        by = {self.prov["role"]: "software"}
        self.document.wasAssociatedWith(name, agent, identifier=self.larun[f"{identity}-by"], other_attributes=by)
        self.influence(name, self.description(step), f"{identity}-description", "DescriptionRelation")
        for number, (key, value) in enumerate(step.parameters.items()):
            own = f"{identity}-parameter-{number}"
            entity = self.entity(own, "Parameter", key, {self.prov["value"]: text_of(value)})
            self.influence(name, entity, f"{own}-configuration", "ConfigurationRelation")
        for number, (key, value) in enumerate(step.fitted.items()):
            own = f"{identity}-fitted-{number}"
            entity = self.entity(own, "ValueEntity", key, {self.prov["value"]: text_of(value)})
            role = {self.prov["role"]: key}
            born = self.larun[f"{own}-generation"]
            self.document.wasGeneratedBy(entity, name, identifier=born, other_attributes=role)
        for number, inner in enumerate(step.substeps):
            part = {self.dcterms["isPartOf"]: name, self.larun["order"]: number}
            self.activity(f"{identity}-{number}", inner, agent, part)
        return name

    def description(self, step: Step) -> Any:
        word = step.operation if re.fullmatch(r"\w{1,60}", step.operation, re.ASCII) else digest_of(step.operation)[:16]
        identity = f"operation-{word}-v{step.version}"
        if identity not in self.known:
            self.known.add(identity)
            version = {self.voprov["version"]: step.version}
            self.entity(identity, "ActivityDescription", step.operation, version)
        return self.larun[identity]

    def influence(self, name: Any, by: Any, identity: str, kind: str) -> None:
        about = {self.prov["type"]: self.voprov[kind]}
        self.document.wasInfluencedBy(name, by, identifier=self.larun[identity], other_attributes=about)

    def agent(self, environment: Mapping[str, str]) -> Any:
        """The software under some versions."""
        identity = f"software-{digest_of(dict(environment))[:16]}"
        if identity not in self.known:
            self.known.add(identity)
            version = environment.get("larun", "")
            about = {
                self.prov["type"]: self.prov["SoftwareAgent"],
                self.prov["label"]: f"larun {version}".strip(),
                self.voprov["name"]: "larun",
                self.voprov["version"]: version,
                self.larun["environment"]: text_of(dict(environment)),
            }
            self.document.agent(self.larun[identity], about)
        return self.larun[identity]


def from_prov(document: ProvDocument, where: str = "PROV document") -> Provenance:
    """The record in a document that :func:`to_prov` made; every id is computed again and compared.

    Parameters
    ----------
    document : prov.model.ProvDocument
        As ``ProvDocument.deserialize`` reads it; what does not belong to the record is passed over.
    where : str
        For messages.

    Raises
    ------
    MissingExtra
        If the package prov is not installed.
    CorruptProduct
        If a part of the record is missing, or an id does not follow from what it names.
    """
    try:
        return Provenance.from_dict(_Reader(document).record(), where)
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise CorruptProduct(f"{where}: holds no record of larun that can be understood ({error!r})") from error


class _Reader:
    """The parts of a document, by what they are about."""

    def __init__(self, document: ProvDocument) -> None:
        self.model = model = _model()
        self.known: dict[str, Any] = {}
        self.heads: list[str] = []
        self.roots: list[str] = []
        for thing in document.get_records(model.ProvElement):
            self.known[thing.identifier.uri] = thing
            if isinstance(thing, model.ProvEntity) and self.of(thing, LARUN, "format") is not None:
                self.heads.append(thing.identifier.uri)
            if isinstance(thing, model.ProvEntity) and self.of(thing, LARUN, "pixels") is not None:
                self.roots.append(thing.identifier.uri)
        self.parts: dict[str, list[tuple[int, str]]] = {}
        for thing in document.get_records(model.ProvActivity):
            for whole in thing.get_attribute(model.QualifiedName(model.Namespace("dcterms", _DCTERMS), "isPartOf")):
                self.parts.setdefault(whole.uri, []).append((self.of(thing, LARUN, "order"), thing.identifier.uri))
        self.used = self.pairs(document.get_records(model.ProvUsage))
        self.generated = self.pairs(document.get_records(model.ProvGeneration))
        self.fitted: dict[str, list[Any]] = {}
        for entity, generations in self.generated.items():
            if self.kind(self.known[entity]) == VOPROV + "ValueEntity":
                self.fitted.setdefault(generations[0][0], []).append(self.known[entity])
        self.agents = self.pairs(document.get_records(model.ProvAssociation))
        self.agents |= self.pairs(document.get_records(model.ProvAttribution))
        self.influences = self.pairs(document.get_records(model.ProvInfluence))

    def of(self, thing: Any, namespace: str, key: str) -> Any:
        """The one value of an attribute; None without it."""
        for name, value in thing.attributes:
            if name.uri == namespace + key:
                return value
        return None

    def pairs(self, relations: Any) -> dict[str, list[tuple[str, Any]]]:
        """What each thing is related to, and the relation."""
        made: dict[str, list[tuple[str, Any]]] = {}
        for relation in relations:
            (_, first), (_, second) = relation.formal_attributes[:2]
            made.setdefault(first.uri, []).append((second.uri, relation))
        return made

    def record(self) -> dict[str, Any]:
        (head,) = self.heads
        nodes = [self.root(uri) for uri in self.roots]
        for entity, generations in self.generated.items():
            if self.kind(self.known[entity]) == VOPROV + "DatasetEntity":
                ((activity, _),) = generations
                nodes.append(self.made(entity, activity))
        return {"format": self.of(self.known[head], LARUN, "format"), "head": _id(head), "nodes": nodes}

    def kind(self, thing: Any) -> str:
        found: str = next(value.uri for name, value in thing.attributes if name.uri == self.model.PROV["type"].uri)
        return found

    def root(self, uri: str) -> dict[str, Any]:
        thing = self.known[uri]
        facts = {key: self.of(thing, LARUN, key) or "" for key in _ROOT}
        name = self.of(thing, VOPROV, "name") or ""
        given = json.loads(self.of(thing, LARUN, "given"))
        root = {**facts, "name": name, "location": "", "given": given}
        return {"id": _id(uri), "parents": [], "root": root, "environment": self.environment(uri)}

    def made(self, entity: str, activity: str) -> dict[str, Any]:
        parents = []
        for source, usage in self.used.get(activity, ()):
            role = self.of(usage, self.model.PROV.uri, "role")
            parents.append((self.of(usage, LARUN, "order"), [role, _id(source)]))
        ordered = [parent for _, parent in sorted(parents)]
        environment = self.environment(activity)
        return {"id": _id(entity), "parents": ordered, "step": self.step(activity), "environment": environment}

    def environment(self, uri: str) -> dict[str, str]:
        ((agent, _),) = self.agents[uri]
        found: dict[str, str] = json.loads(self.of(self.known[agent], LARUN, "environment"))
        return found

    def step(self, activity: str) -> dict[str, Any]:
        made: dict[str, Any] = {"parameters": {}, "fitted": {}}
        for uri, relation in self.influences[activity]:
            thing = self.known[uri]
            if self.kind(relation) == VOPROV + "ConfigurationRelation":
                made["parameters"] |= self.value(thing)
            else:
                made |= {"operation": self.of(thing, VOPROV, "name"), "version": self.of(thing, VOPROV, "version")}
        for thing in self.fitted.get(activity, ()):
            made["fitted"] |= self.value(thing)
        inner = [self.step(uri) for _, uri in sorted(self.parts.get(activity, ()))]
        return {**made, "reach": self.of(self.known[activity], LARUN, "reach"), "substeps": inner}

    def value(self, thing: Any) -> dict[str, Any]:
        return {self.of(thing, VOPROV, "name"): json.loads(self.of(thing, self.model.PROV.uri, "value"))}


def _id(uri: str) -> str:
    return uri.removeprefix(LARUN)
