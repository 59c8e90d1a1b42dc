"""What ArcadeDB and Neo4j read alike: finds in a Cypher text what one of them refuses or reads otherwise.

Reads text, not grammar: it knows quotes, comments, backticks and brackets."""

import ast
import re
from collections.abc import Iterator

_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|//[^\n]*|/\*.*?\*/", re.DOTALL)
_NAMED = re.compile(r"`([^`]*)`")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IS_CYPHER = re.compile(
    r"\b(?:MATCH|MERGE)\s*[(_]|\bUNWIND\s+\S+\s+AS\b|\b(?:CREATE|SHOW|DROP)\s+(?:CONSTRAINT|INDEX)|\bDETACH\s+DELETE\b"
)
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), remedy)
    for pattern, remedy in (
        (r"\bapoc\s*\.", "no APOC: write it in Cypher"),
        (r"\bLOAD\s+CSV\b", "no LOAD CSV: it reads files of the server"),
        (r"\bCALL\s+[A-Za-z_]", "no procedures: servers know different ones"),
        (r"\bIN\s+(?:\d+\s+)?(?:CONCURRENT\s+)?TRANSACTIONS\b", "no CALL {} IN TRANSACTIONS: write batches"),
        (r"\bSHORTEST\s+\d", "no SHORTEST k: use shortestPath"),
        (r"\$\s*\(", "no dynamic labels or types, ArcadeDB ignores them: WHERE type(r) IN $types"),
        (r"\[[^\]]*\*\s*(?:\d+\s*\.\.\s*)?\]", "paths are bounded: *1..k"),
        (r"\bavg\s*\(", "averages differ in their last bits: sum(x) / count(x)"),
        (r"\b(?:elementId|id)\s*\(", "ids of the server are not kept: use the property id"),
        (r"\b(?:datetime|localdatetime|date|time|timestamp|duration)\s*\(", "times are whole seconds"),
        (r"\b(?:FULLTEXT|VECTOR|NODE\s+KEY|RELATIONSHIP\s+KEY)\b", "plain indexes and UNIQUE only"),
        (r"\bREQUIRE\b.*\bIS\s+NOT\s+NULL\b", "no NOT NULL constraints: check in Python"),
        (r"\bREQUIRE\s*\([^)]*,", "no composite constraints: make one id"),
        (r"\bCREATE\s+(?:CONSTRAINT|INDEX)\b(?!.*\bIF\s+NOT\s+EXISTS\b)", "constraints: IF NOT EXISTS"),
        (r"\bSHOW\s+(?:CONSTRAINTS|INDEXES)\b(?!\s+YIELD\b)", "SHOW names its columns: YIELD …"),
        (r"\bdb\s*\.|\bdbms\s*\.", "no db.* procedures: MATCH (n) UNWIND labels(n)"),
        (r"\b(?:FOREACH|PROFILE|EXPLAIN|USE)\b", "not among what both servers share"),
    )
)
_DELETE = re.compile(r"\bDELETE\b", re.IGNORECASE)
_IS_BOUNDED = re.compile(r"\bLIMIT\b|\{\s*id\s*:|\b_\b", re.IGNORECASE)
_ORDER = re.compile(r"\bORDER\s+BY\b(.*?)(?=\b(?:LIMIT|SKIP|RETURN|WITH|UNION|MATCH)\b|\}|$)", re.I | re.S)


def faults(query: str) -> tuple[str, ...]:
    """What a text does that the two servers do not do alike, each with what to write; none is right.

    Example:
        >>> faults("MATCH (n:`Genre`) RETURN n.id AS id ORDER BY id")
        ()
        >>> faults("MATCH (n:Genre) RETURN avg(n.level) AS level")
        ('averages differ in their last bits: sum(x) / count(x)', 'names stand in backticks: :Genre')
    """
    code = _QUOTED.sub("''", query)
    found = [remedy for rule, remedy in _RULES if rule.search(code)]
    for name in _NAMED.findall(code):
        if not _PLAIN_NAME.fullmatch(name):
            found.append(f"names are letters, digits and _: `{name}`")
    if re.search(r"`\s*[:&|]\s*`", re.sub(r"\[[^\]]*\]", "", code)):
        found.append("a node has one label")
    found += [f"names stand in backticks: :{name}" for name in _bare_names(_NAMED.sub("`_`", code))]
    for keys in _ORDER.findall(code):
        if not re.search(r"(?:^|[\s.,_])\w*id(?:\s+(?:ASC|DESC))?\s*$", keys.strip(), re.IGNORECASE):
            found.append("ORDER BY ends with an id, so that ties fall alike")
    if _DELETE.search(code) and not _IS_BOUNDED.search(_NAMED.sub("``", code)):
        found.append("big deletes end ArcadeDB: WITH n LIMIT 2000 DETACH DELETE n, in a loop")
    return tuple(dict.fromkeys(found))


def _bare_names(code: str) -> Iterator[str]:
    """Labels and types without backticks: names after a colon that is no key of a map."""
    brackets, start = [""], 0
    for place, letter in enumerate(code):
        if letter in "([{":
            brackets.append(letter)
            start = place + 1
        elif letter in ")]}":
            brackets = brackets[:-1] or [""]
        elif letter == ",":
            start = place + 1
        elif letter == ":" and (name := _PLAIN_NAME.match(code[place + 1 :].lstrip())):
            is_key = brackets[-1] == "{" and _PLAIN_NAME.fullmatch(code[start:place].strip())
            if not is_key:
                yield name[0]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every Cypher text in a Python file but docstrings, with its line; what is filled in stands as ``_``.

    Example:
        >>> list(texts("def a(label):\\n    return f'MATCH (n:`{label}`) RETURN n'"))
        [(2, 'MATCH (n:`_`) RETURN n')]
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    parts = {id(value) for node in nodes if isinstance(node, ast.JoinedStr) for value in node.values}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes:
        text = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(
                str(value.value) if isinstance(value, ast.Constant) else "_" for value in node.values
            )
        if text is not None and _IS_CYPHER.search(text):
            yield node.lineno, text
