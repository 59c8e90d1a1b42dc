"""How what two contents share is said in a sentence: counted where it has no name, named where it has one."""

from collections.abc import Sequence
from dataclasses import dataclass

_NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()
NAMELESS = "a title without a name"
KINDS_SAID, NAMES_SAID = 3, 3
LEAST_SHARE = 0.1
"""What adds less than this to the surprise of a path is not worth saying."""


@dataclass(frozen=True)
class Link:
    """One way in which a content has a node."""

    fact: str
    content_role: str
    node_role: str
    one: str
    many: str
    did: str = ""
    """What the node did for the content, where it can be somebody's part ("directed")."""
    is_only: bool = False
    """True where a content mostly has one such node: then it is *the* director."""
    direct: str = ""
    """For a node that is a content too: what the content is to it."""


@dataclass(frozen=True)
class Shared:
    """What a content and one of a history both have, in the same way."""

    link: Link
    """How the recommended content has it."""
    theirs: Link
    """How the content of the history has it."""
    names: tuple[str, ...]
    """Names of those that have one."""
    count: int
    """How many, with a name or without."""
    surprise: float
    """Σ −log(share of contents that have it)."""
    is_direct: bool = False
    """True where the content of the history is itself what the recommended one is linked to."""


def say(shared: Sequence[Shared], title: str) -> str:
    """One sentence without its subject, the recommended content.

    Example:
        >>> actor = Link("ACTED_IN", "content", "person", "actor", "actors", "acted in")
        >>> director = Link("DIRECTED", "content", "person", "director", "directors", is_only=True)
        >>> say([Shared(actor, actor, (), 2, 9.0), Shared(director, director, (), 1, 5.0)], "Heat")
        'shares two actors and the director with *Heat*'
        >>> say([Shared(director, actor, ("Clint Eastwood",), 1, 5.0)], "Unforgiven")
        'has the director Clint Eastwood, who acted in *Unforgiven*'
    """
    total = sum(one.surprise for one in shared)
    worth = [one for one in shared if one.surprise >= LEAST_SHARE * total][:KINDS_SAID]
    clauses, object = [], quoted(title)
    for one in worth:
        if one.is_direct:
            clauses.append(f"{one.link.direct} {object}")
            object = "it"
    alike = [_noun(one) for one in worth if not one.is_direct and one.link == one.theirs]
    if alike:
        clauses.append(f"shares {listed(alike)} with {object}")
        object = "it"
    for one in worth:
        if not one.is_direct and one.link != one.theirs:
            clauses.append(_otherwise(one, object))
            object = "it"
    return listed(clauses)


def quoted(title: str) -> str:
    """``*Heat*``; words that stand for a title that is not known stay as they are."""
    return title if title == NAMELESS else f"*{title}*"


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _noun(shared: Shared) -> str:
    """The director · two actors · the actors A, B and three more."""
    link, count, names = shared.link, shared.count, list(shared.names[:NAMES_SAID])
    if not names:
        if count > 1:
            return f"{_number(count)} {link.many}"
        return f"{'the' if link.is_only else 'an' if link.one[0] in 'aeiou' else 'a'} {link.one}"
    more = [f"{_number(count - len(names))} more"] if count > len(names) else []
    return f"the {link.one if count == 1 else link.many} {listed(names + more)}"


def _otherwise(shared: Shared, object: str) -> str:
    """Where the two have it in different ways: the director of one acted in the other."""
    if shared.theirs.did:
        return f"has {_noun(shared)}, who {shared.theirs.did} {object}"
    return f"has {_noun(shared)}, which {object} has as {shared.theirs.one}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
