"""Two made-up catalogues of overlapping films, one of them spoilt in a chosen way, and which records are one.

Nothing in them is real. Sequels, remakes and namesakes are there to mislead a careless join."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kg.records import Hyperedge, Node

Noise = Literal["written", "mistyped", "spoilt"]
NOISES: tuple[Noise, ...] = ("written", "mistyped", "spoilt")
"""Noise: written another way; also mistyped, years off by one; also half of it missing."""
OURS, THEIRS = "cata", "catb"
_FIRST = (
    "Silent Crimson Broken Électric Last Hidden Frozen Golden Paper Burning Distant Velvet Hollow Señor"
).split()
_SECOND = (
    "Harbour Detective Galaxy Wedding Empire Cellar Señorita River Orchard Signal Témoin Garden Winter Köln"
).split()
_THIRD = (
    "Shadow Letters Dance Siege Voyage Whisper Café Machine Daughter Promise Horizon Crown Échoes Orbit"
).split()
_GIVEN = (
    "Ada Bela Chloé Dmitri Elif Ferran Grace Hiro Ines João Karin Luis Mai Nils Oona Päivi Renée Søren"
).split()
_FAMILY = (
    "Almeida Berg Castillo Dubois Eriksen Fischer Grönlund Hughes Ito Jansen Kowalski López Müller Novák"
).split()
_GENRES = ("action", "comedy", "drama", "horror", "romance", "science-fiction", "thriller", "western")
_SHAPES = (
    "The {0} {1}",
    "{0} {2}",
    "The {1} of {2}",
    "{0} & {2}",
    "A {0} {2}",
    "{1} and the {2}",
    "{0} {1} {2}",
)


@dataclass(frozen=True)
class DuplicatesConfig:
    """Settings of :func:`duplicates`."""

    films: int = 600
    """Films in all, at least 10; each is in one catalogue or in both."""
    noise: Noise = "written"
    """How the second catalogue is spoilt."""
    shared_share: float = 0.5
    """Of films that are in both catalogues, 0 to 1."""
    strong_share: float = 0.2
    """Of films whose IMDb id a catalogue tells, 0 to 1."""
    rival_share: float = 0.2
    """Of films that are a sequel, a remake or a namesake of another, 0 to 1."""
    ours_share: float = 0.5
    """Of the films that are in one catalogue only, those that are in the first, 0 to 1."""
    first: int = 0
    """Number of the first film and of the first person: catalogues of one world go on where others end."""
    word: str = ""
    """Ends the titles of these catalogues, so that they meet no title of others; '' leaves them alone."""
    source: str = "world"
    """Who tells the facts."""
    seed: int = 0
    """Fixes every draw."""

    def __post_init__(self) -> None:
        if self.films < 10 or self.noise not in NOISES:
            raise ValueError(
                f"two catalogues have 10 films or more and noise of {', '.join(NOISES)}, got {self.films}, "
                f"{self.noise!r}: change the setting"
            )
        shares = (self.shared_share, self.strong_share, self.rival_share, self.ours_share)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"shares lie in 0..1, got {shares}: change the setting")


@dataclass(frozen=True)
class Duplicates:
    """Records of both catalogues, and the right answers."""

    records: list[Node | Hyperedge]
    contents: dict[str, str]
    """Id of a content in the second catalogue -> id of the same film in the first, where it is in both."""
    people: dict[str, str]
    """The same for people."""
    strong: dict[str, str]
    """Id of a content -> its true IMDb id, told by its catalogue or not."""


@dataclass(frozen=True)
class _Film:
    title: str
    year: int
    runtime: int
    genres: tuple[str, ...]
    crew: tuple[int, ...]
    """Places of people; the first directs."""


def duplicates(config: DuplicatesConfig) -> Duplicates:
    """Two catalogues with planted duplicates.

    Example:
        >>> small = duplicates(DuplicatesConfig(films=20))
        >>> len(small.contents), all(theirs.startswith("content:catb:") for theirs in small.contents)
        (10, True)
    """
    return _Builder(config).build()


class _Builder:
    """Draws films, then what either catalogue says of them."""

    def __init__(self, config: DuplicatesConfig) -> None:
        self.config, self.random = config, np.random.default_rng(config.seed)
        self.records: list[Node | Hyperedge] = []
        self.told: set[str] = set()
        pool = [f"{given} {family}" for given in _GIVEN for family in _FAMILY]
        self.names = [str(name) for name in self.random.permutation(pool)][: max(20, config.films // 2)]

    def build(self) -> Duplicates:
        films = self._films()
        shared = set(
            self.random.permutation(len(films))[: round(len(films) * self.config.shared_share)].tolist()
        )
        contents: dict[str, str] = {}
        strong: dict[str, str] = {}
        for place, film in enumerate(films):
            number = place + self.config.first
            mine = place in shared or self.random.random() < self.config.ours_share
            if mine:
                self._tell(OURS, number, film, _as_is)
            if place in shared or not mine:
                self._tell(THEIRS, number, film, self._spoil)
            if place in shared:
                contents[f"content:{THEIRS}:{number}"] = f"content:{OURS}:{number}"
            for scheme in (OURS, THEIRS):
                strong[f"content:{scheme}:{number}"] = f"imdb:tt{7_000_000 + number}"
        people = {
            f"person:{THEIRS}:{person}": f"person:{OURS}:{person}"
            for person in range(self.config.first, self.config.first + len(self.names))
            if {f"person:{THEIRS}:{person}", f"person:{OURS}:{person}"} <= self.told
        }
        return Duplicates(self.records, contents, people, strong)

    def _films(self) -> list[_Film]:
        films: list[_Film] = []
        used: set[str] = set()
        while len(films) < self.config.films:
            if films and self.random.random() < self.config.rival_share:
                films.append(self._rival(films[int(self.random.integers(len(films)))]))
                continue
            title = self._title()
            if title not in used:
                used.add(title)
                films.append(self._film(title, int(self.random.integers(1950, 2023))))
        return films

    def _title(self) -> str:
        words = [str(self.random.choice(list_)) for list_ in (_FIRST, _SECOND, _THIRD)]
        title = str(self.random.choice(_SHAPES)).format(*words)
        title = f"{title} {self.random.choice(_THIRD)}" if self.random.random() < 0.5 else title
        return f"{title} {self.config.word}" if self.config.word else title

    def _film(self, title: str, year: int) -> _Film:
        genres = self.random.choice(_GENRES, size=2, replace=False)
        crew = self.random.choice(len(self.names), size=6, replace=False)
        return _Film(
            title, year, int(self.random.integers(75, 170)), tuple(map(str, genres)), tuple(crew.tolist())
        )

    def _rival(self, of: _Film) -> _Film:
        kind = self.random.integers(3)
        if kind == 0:  # a sequel, by the same people
            sequel = self._film(f"{of.title} 2", of.year + int(self.random.integers(2, 5)))
            return _Film(sequel.title, sequel.year, sequel.runtime, of.genres, of.crew[:4] + sequel.crew[4:])
        apart = (
            int(self.random.integers(8, 30)) if kind == 1 else 0
        )  # a remake, or a namesake of the same year
        namesake = self._film(of.title, of.year + apart)
        runtime = of.runtime + (25 if of.runtime < 120 else -25)
        strangers = tuple(person for person in namesake.crew if person not in of.crew)
        return _Film(of.title, namesake.year, runtime, namesake.genres, strangers or namesake.crew)

    def _tell(self, scheme: str, number: int, film: _Film, spoil: Callable[[_Film], dict[str, Any]]) -> None:
        id = f"content:{scheme}:{number}"
        ids = [f"imdb:tt{7_000_000 + number}"] if self.random.random() < self.config.strong_share else []
        said = spoil(film)
        crew = said.pop("crew")
        genres = said.pop("genres")
        known = {**said, "kind": "movie", "ids": (*ids, f"{scheme}:{number}"), "simulated": True}
        self.records.append(
            Node("Content", id, {name: value for name, value in known.items() if value is not None})
        )
        for genre in genres:
            self._fact("BELONGS_TO", content=id, genre=f"genre:{genre}")
        for order, person in enumerate(crew):
            self._fact("ACTED_IN" if order else "DIRECTED", content=id, person=self._person(scheme, person))

    def _person(self, scheme: str, person: int) -> str:
        id = f"person:{scheme}:{self.config.first + person}"
        if id not in self.told:
            self.told.add(id)
            name = self.names[person] if scheme == OURS else self._name(self.names[person])
            node = {"name": name, "ids": (id.partition(":")[2],), "simulated": True}
            self.records.append(Node("Person", id, node))
        return id

    def _fact(self, type: str, **members: str) -> None:
        named = {role: (member,) for role, member in members.items()}
        self.records.append(Hyperedge(type, named, self.config.source, {"simulated": True}))

    def _spoil(self, film: _Film) -> dict[str, Any]:
        noise, random = self.config.noise, self.random
        said = _as_is(film)
        title = film.title
        if noise != "written":
            title = self._mistype(title, 1 if noise == "mistyped" else int(random.integers(1, 3)))
            said["release_year"] += int(random.choice((-1, 0, 0, 0, 1)))
            said["runtime_minutes"] += int(random.integers(-3, 4))
            said["crew"] = [person for person in film.crew if random.random() < 0.8]
        if noise == "spoilt":
            said["release_year"] = said["release_year"] if random.random() < 0.8 else None
            said["runtime_minutes"] = said["runtime_minutes"] if random.random() < 0.5 else None
            said["crew"] = [person for person in film.crew if random.random() < 0.5]
            said["genres"] = film.genres[:1] if random.random() < 0.5 else ()
        said["title"] = self._rewrite(title, film.year)
        return said

    def _rewrite(self, title: str, year: int) -> str:
        way = self.random.integers(5)
        first, _, rest = title.partition(" ")
        if way == 0 and first in ("The", "A") and rest:
            return f"{rest}, {first}"
        if way == 1:
            return f"{title} ({year})"
        if way == 2:
            return _without_accents(title)
        return title.upper() if way == 3 else title.replace("&", "and")

    def _mistype(self, text: str, times: int) -> str:
        for _ in range(times):
            place = int(self.random.integers(1, len(text) - 1))
            way = self.random.integers(3)
            if way == 0:
                text = text[:place] + text[place + 1 :]
            elif way == 1:
                text = text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]
            else:
                text = text[:place] + text[place] + text[place:]
        return text

    def _name(self, name: str) -> str:
        given, _, family = name.partition(" ")
        way = self.random.integers(4)
        if self.config.noise == "spoilt" and way == 0:
            return f"{given[0]}. {family}"
        if self.config.noise != "written" and way == 1:
            return self._mistype(name, 1)
        return f"{family}, {given}" if way == 2 else _without_accents(name)


def _as_is(film: _Film) -> dict[str, Any]:
    return {
        "title": film.title,
        "release_year": film.year,
        "runtime_minutes": film.runtime,
        "genres": film.genres,
        "crew": list(film.crew),
    }


def _without_accents(text: str) -> str:
    return text.translate(str.maketrans("Ééñöøüãäáó", "Eenoouaaao"))
