"""Collects what bears on who a node is: its own properties, and the people, genres and contents beside it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from kg.matching import Profile
from kg.records import Hyperedge, Node
from kg.titles import comparable, comparable_name

_CREDITS = ("ACTED_IN", "DIRECTED", "WROTE")
_TITLES = ("title", "original_title")


class Profiles:
    """Hears nodes and facts of all sources; makes one profile out of the records that are one node so far.

    Cost: one entry a credit and a genre in memory.
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = defaultdict(set)  # person -> comparable names
        self._genres: dict[str, set[str]] = defaultdict(set)  # content -> genres
        self._people: dict[str, set[str]] = defaultdict(set)  # content -> people
        self._contents: dict[str, set[str]] = defaultdict(set)  # person -> contents

    def hear(self, record: Node | Hyperedge) -> None:
        """Takes in one record; what has no bearing on identity is passed over."""
        if isinstance(record, Node):
            if record.type == "Person" and "name" in record.properties:
                self._names[record.id].add(comparable_name(str(record.properties["name"])))
        elif record.type == "BELONGS_TO":
            self._genres[record.members["content"][0]].add(record.members["genre"][0])
        elif record.type in _CREDITS:
            content, person = record.members["content"][0], record.members["person"][0]
            self._people[content].add(person)
            self._contents[person].add(content)

    def content(self, id: str, members: Iterable[str], nodes: Sequence[Node]) -> Profile:
        """The profile of a content out of the nodes that tell of it, under the ids of ``members``."""
        told = [node.properties for node in nodes]
        titles = {str(known[name]) for known in told for name in _TITLES if name in known}
        titles |= {title for known in told for title in known.get("alternate_titles", ())}  # type: ignore[union-attr]
        people = {person for member in members for person in self._people.get(member, ())}
        return Profile(
            id,
            frozenset(name for title in titles if (name := comparable(title))),
            frozenset(int(known["release_year"]) for known in told if "release_year" in known),  # type: ignore[arg-type]
            frozenset(str(known["kind"]) for known in told if "kind" in known),
            frozenset(int(known["runtime_minutes"]) for known in told if "runtime_minutes" in known),  # type: ignore[arg-type]
            frozenset(genre for member in members for genre in self._genres.get(member, ())),
            frozenset(name for person in people for name in self._names.get(person, ())),
        )

    def person(self, id: str, members: Iterable[str], contents: dict[str, str]) -> Profile:
        """The profile of a person; ``contents`` says under which id a content stands by now."""
        own = list(members)
        shared = {
            contents.get(content, content) for member in own for content in self._contents.get(member, ())
        }
        names = {name for member in own for name in self._names.get(member, ()) if name}
        return Profile(id, frozenset(names), others=frozenset(shared))
