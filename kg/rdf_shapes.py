"""Vocabulary and SHACL shapes as Turtle: what the schema says, and what is written in ``configs/rdf``."""

import re
from collections.abc import Iterator
from functools import cache

from configs.loading import ROOT
from kg import schema
from kg.rdf_terms import MG, OWN, PREFIXES, Class, Term, classes, short

_KINDS = {
    "text": "xsd:string",
    "texts": "xsd:string",
    "integer": "xsd:integer",
    "number": "xsd:double",
    "flag": "xsd:boolean",
    "time": "xsd:dateTime",
}
_SAID = {
    "text": "a text",
    "texts": "texts",
    "integer": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "time": "a moment, UTC",
    "node": "a node",
}
_FACT_MEANS = {
    "source": "who told this fact",
    "confidence": "how sure the source is, 0 to 1",
    "start_ts": "from when this fact holds; absent: open",
    "end_ts": "until when, not included; absent: open, the end is not known",
}
_PATTERNS = {"date": "^[0-9]{4}(-[0-9]{2}){0,2}$", "currency": "^[A-Z]{3}$"}
_SHAPES, _VOCABULARY = ROOT / "rdf" / "shapes.ttl", ROOT / "rdf" / "media_gateway.ttl"


@cache
def shapes_text() -> str:
    """All shapes: those of the schema, then those of ``configs/rdf/shapes.ttl``."""
    made = "\n".join(_shape(known) for known in classes().values())
    return f"{prefixes_text()}\n{made}\n{_SHAPES.read_text(encoding='utf-8')}"


@cache
def vocabulary_text() -> str:
    """Every class and property of ours with label and comment.

    What ``configs/rdf/media_gateway.ttl`` describes is taken from there; the rest is said from the schema.
    """
    written = _VOCABULARY.read_text(encoding="utf-8")
    described = set(re.findall(r"^(mg:\w+) ", written, re.MULTILINE))
    made = [line for name, line in _terms() if name not in described]
    return f"{prefixes_text()}\n{written}\n" + "\n".join(made)


def prefixes_text() -> str:
    """The prefixes as Turtle."""
    return "".join(f"@prefix {name}: <{iri}> .\n" for name, iri in PREFIXES.items())


def _terms() -> Iterator[tuple[str, str]]:
    """(name, Turtle) of every class and property."""
    uses: dict[str, list[tuple[Class, Term]]] = {}
    for known in classes().values():
        parents = "".join(f" ;\n    rdfs:subClassOf {short(iri)}" for iri in known.iris[1:])
        what = "A fact, told by a source and valid for a time" if known.is_fact else "A thing in the graph"
        base = "mg:Fact" if known.is_fact else "mg:Node"
        yield (
            short(known.iris[0]),
            f'{short(known.iris[0])} a rdfs:Class ;\n    rdfs:label "{_words(short(known.iris[0])[3:])}" ;\n'
            f'    rdfs:comment "{what}: {known.type} in the schema." ;\n'
            f"    rdfs:subClassOf {base}{parents} .\n",
        )
        for term in known.terms.values():
            uses.setdefault(term.iri, []).append((known, term))
            if term.order_iri:
                uses.setdefault(term.order_iri, []).append((known, term))
    for iri, used in uses.items():
        if iri.startswith(MG):
            yield short(iri), _property(iri, used)


def _property(iri: str, used: list[tuple[Class, Term]]) -> str:
    first = used[0][1]
    if iri == first.order_iri:
        comment = f"All values of {short(first.iri)} in a list, where their order or repeats count."
    elif first.name in OWN and first.what == "own":
        comment = f"Of a fact: {_FACT_MEANS[first.name]}."
    else:
        said = sorted({f"of {known.type} {_SAID[term.kind]}{_bounds(known, term)}" for known, term in used})
        comment = (
            f"{', '.join(said)}.".capitalize() if len(used) < 4 else f"{_SAID[first.kind].capitalize()}."
        )
    return (
        f'{short(iri)} a rdf:Property ;\n    rdfs:label "{_words(short(iri)[3:])}" ;\n'
        f'    rdfs:comment "{comment}" .\n'
    )


def _bounds(known: Class, term: Term) -> str:
    column = _column(known, term)
    if column is None:
        return ""
    if column.choices or column.form:
        return f": {', '.join(column.choices)}" if column.choices else f", written as a {column.form}"
    if column.low is None and column.high is None:
        return ""
    if column.high is None:
        return f" from {column.low}"
    return f" {column.low} to {column.high}"


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def _shape(known: Class) -> str:
    label = known.iris[0].removeprefix(MG)
    properties = [_property_shape(known, term) for term in known.terms.values()]
    if known.is_fact:
        start, end = (known.terms[name].iri for name in ("start_ts", "end_ts"))
        properties.append(
            f"sh:property [ sh:path {short(start)} ; sh:lessThan {short(end)} ; "
            'sh:message "a fact ends after it starts" ]'
        )
    return (
        f"mg:{label}Shape a sh:NodeShape ; sh:targetClass mg:{label} ;\n    "
        + " ;\n    ".join(properties)
        + " .\n"
    )


def _property_shape(known: Class, term: Term) -> str:
    said = [f"sh:path {short(term.iri)}"]
    if term.kind == "node":
        role = schema.FACTS[known.type].role(term.name)
        members = [f"[ sh:class {short(classes()[type].iris[0])} ]" for type in role.types]
        said += ["sh:nodeKind sh:IRI", f"sh:minCount {role.least}", f"sh:or ( {' '.join(members)} )"]
        said += [] if role.most is None else [f"sh:maxCount {role.most}"]
        who = f"{_many(role)} {' or '.join(role.types)} of the file"
        said.append(f'sh:message "{known.type} names as {term.name} {who}"')
        return f"sh:property [ {' ; '.join(said)} ]"
    if term.kind == "time":
        said.append("sh:or ( [ sh:datatype xsd:dateTime ] [ sh:datatype xsd:integer ] )")
    else:
        said.append(f"sh:datatype {_KINDS[term.kind]}")
    if term.kind == "number":
        said.append('sh:pattern "^[-+0-9.eE]+$"')  # neither NaN nor infinite
    said += [] if term.kind == "texts" else ["sh:maxCount 1"]
    said += ["sh:minCount 1"] if term.name in ("source", "confidence") and term.what == "own" else []
    column = _column(known, term)
    if column is not None and column.low is not None:
        said.append(f"sh:minInclusive {column.low}")
    if column is not None and column.high is not None:
        said.append(f"sh:maxInclusive {column.high}")
    if column is not None:
        said += _word_shapes(column)
    bounds = _bounds(known, term)
    said.append(f'sh:message "{term.name} of {known.type} is {_SAID[term.kind]}{bounds}"')
    return f"sh:property [ {' ; '.join(said)} ]"


def _word_shapes(column: schema.Column) -> list[str]:
    """What texts of a column keep to."""
    said = [f"sh:maxLength {schema.LONGEST_TEXT}"] if column.kind in ("text", "texts") else []
    if column.choices:
        said.append(f"sh:in ( {' '.join(_quoted(word) for word in column.choices)} )")
    if column.form is not None:
        said.append(f"sh:pattern {_quoted(_PATTERNS[column.form])}")
    return said


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _many(role: schema.Role) -> str:
    if role.most is None:
        return f"{role.least} or more"
    return str(role.most) if role.least == role.most else f"{role.least} to {role.most}"


def _column(known: Class, term: Term) -> schema.Column | None:
    if term.what == "own":
        return schema.Column("number", 0, 1) if term.name == "confidence" else None
    kinds = schema.FACTS if known.is_fact else schema.NODES
    return kinds[known.type].columns.get(term.name)
