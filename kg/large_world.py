"""A made-up graph of any size, told record by record, whose right answers are known.

Memory does not grow with it: whatever is planted follows from the seed and a number, and is drawn anew each
time somebody asks. Nothing in it is real, and every record says so."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kg.planted_windows import BLOCKS, BOUNDS, PLATFORMS, Kind, Planted, plant
from kg.records import Hyperedge, Node
from kg.vocabulary import genre_node, platform_node, region_node
from kg.windows import DAY_S, day_ts
from kg.world_duplicates import NOISES, OURS, Duplicates, DuplicatesConfig, Noise, duplicates

SOURCE, SHOP = "large-world", "large-world-shop"
"""Who tells nearly all of it; and who tells some windows once more, and is more reliable."""
BLOCK = 100
"""Contents that are drawn together; their people play in no other block."""
_SYLLABLES = "ka lo mi re su ta vo xi ze bu".split()
_GENRES = ("action", "comedy", "drama", "horror", "romance", "science-fiction", "thriller", "western")


@dataclass(frozen=True)
class LargeWorldConfig:
    """Settings of :class:`LargeWorld`; only the number of facts may be without a bound of memory."""

    ratings: int = 1_000
    """0 or more, shared evenly among the users; a user rates at most half of the contents."""
    users: int = 50
    """At least 1."""
    contents: int = 100
    """At least 20."""
    tastes: int = 5
    """At least 1: contents n, n + tastes, … and users n, n + tastes, … are of one taste."""
    faithful_share: float = 0.85
    """Share of a user's ratings that fall on contents of the own taste, 0 to 1."""
    noise: Noise = "written"
    """How second records of a content are spoilt."""
    duplicate_share: float = 0.1
    """Share of contents that a second record tells of, under another id, 0 to 1."""
    rival_share: float = 0.1
    """Share of contents that are a sequel, a remake or a namesake of another, 0 to 1."""
    planted_share: float = 0.3
    """Share of contents whose windows agree, are contested, or break exclusivity or a licence, 0 to 1."""
    seed: int = 0
    """Fixes every draw."""

    def __post_init__(self) -> None:
        if self.users < 1 or self.tastes < 1 or self.contents < max(20, 4 * self.tastes):
            raise ValueError(
                f"a large world has users, tastes and 20 contents, 4 a taste, got {self.users}, "
                f"{self.tastes} and {self.contents}: ask for more, or for fewer tastes"
            )
        if not 0 <= self.ratings <= self.users * (self.contents // 2):
            raise ValueError(
                f"{self.users} users rate half of {self.contents} contents at most, got {self.ratings} "
                "ratings: ask for more users or contents"
            )
        shares = (self.faithful_share, self.duplicate_share, self.rival_share, self.planted_share)
        if not all(0 <= share <= 1 for share in shares) or self.noise not in NOISES:
            raise ValueError(f"shares lie in 0..1, noise is of {NOISES}, got {shares}, {self.noise!r}")


class LargeWorld:
    """Records of two sources, and the right answers.

    Users of a taste rate contents of it more often and higher (mean 8.8 of 10, others 4.5), the first
    contents of a taste more often than the last. Tastes show in ratings alone: people, genres and titles
    come from :mod:`kg.world_duplicates` and follow none.

    Cost: memory of one block of contents, whatever the number of ratings, users and contents.
    """

    def __init__(self, config: LargeWorldConfig) -> None:
        self.config = config

    def records(self) -> Iterator[Node | Hyperedge]:
        """What the first source tells, nodes before the facts that name them."""
        yield from self._places()
        yield from (genre_node(f"genre:{key}", SOURCE) for key in _GENRES)
        for first in range(0, self.config.contents, BLOCK):
            yield from self._block_records(first)
        for user in range(self.config.users):
            yield Node("User", _user(user), {"sources": (SOURCE,), "simulated": True, "may_learn": True})
            yield from self._ratings(user)

    def told_again(self) -> Iterator[Node | Hyperedge]:
        """What the second source tells: windows of some contents, which agree or contradict."""
        yield from self._places(SHOP)
        for one in self.planted():
            if one.told_again:
                yield Node("Content", one.content_id, {"sources": (SHOP,), "simulated": True})
                yield from one.told_again

    def planted(self, kind: Kind | None = None) -> Iterator[Planted]:
        """What is planted about where each content is, by number of the content; None means every kind."""
        for first in range(0, self.config.contents, BLOCK):
            for node in self._block(first).records:
                if isinstance(node, Node) and node.id.startswith(f"content:{OURS}:"):
                    one = self._plant(node)
                    if kind in (None, one.kind):
                        yield one

    def violations(self) -> Iterator[tuple[str, str]]:
        """(content id, bound of its licence that its window breaks)."""
        return ((one.content_id, one.kind) for one in self.planted() if one.kind in BOUNDS)

    def same(self, type: str = "Content") -> Iterator[tuple[str, str]]:
        """(id of a second record, id of the first record of the same content, or of the same Person)."""
        for first in range(0, self.config.contents, BLOCK):
            block = self._block(first)
            yield from (block.contents if type == "Content" else block.people).items()

    def taste_of(self, node_id: str) -> int:
        """The taste of a user or of a content, 0 to ``tastes`` - 1."""
        return int(node_id.rpartition(":")[2]) % self.config.tastes

    def _block(self, first: int) -> Duplicates:
        config = self.config
        films = min(BLOCK, config.contents - first)
        return duplicates(
            DuplicatesConfig(
                max(films, 20),
                config.noise,
                config.duplicate_share,
                rival_share=config.rival_share,
                ours_share=1.0,
                first=first,
                word=_word(first // BLOCK),
                source=SOURCE,
                seed=config.seed * 1_000_003 + first,
            )
        )

    def _block_records(self, first: int) -> Iterator[Node | Hyperedge]:
        seen: set[tuple[str, ...]] = set()  # a sequel may name one of its people twice
        for record in self._block(first).records:
            if not isinstance(record, Node):
                said = (record.type, *(ids[0] for ids in record.members.values()))
                if said not in seen:
                    seen.add(said)
                    yield record
                continue
            known = {**record.properties, "sources": (SOURCE,)}
            if not record.id.startswith(f"content:{OURS}:"):
                yield replace(record, properties=known)
                continue
            one = self._plant(record)
            if one.release_date is not None:
                known["release_date"] = one.release_date
            yield replace(record, properties=known)
            if one.licence is not None:
                yield one.licence
            yield from one.told

    def _plant(self, content: Node) -> Planted:
        config, number = self.config, int(content.id.rpartition(":")[2])
        other = f"content:{OURS}:{number - 1}" if number else None
        year = int(content.properties["release_year"])  # type: ignore[arg-type]
        return plant(config.seed, number, content.id, other, year, config.planted_share, (SOURCE, SHOP))

    def _places(self, source: str = SOURCE) -> Iterator[Node]:
        yield from (platform_node(key, source) for key in PLATFORMS)
        yield from (region_node(code, source) for code in (*(c for block in BLOCKS for c in block), "ZA"))

    def _ratings(self, user: int) -> Iterator[Hyperedge]:
        config, random = self.config, np.random.default_rng([self.config.seed, 2, user])
        share, rest = divmod(config.ratings, config.users)
        wanted = share + (user < rest)
        rated = self._rated(user, wanted, random)
        is_own = rated % config.tastes == user % config.tastes
        values = np.clip(np.round(random.normal(np.where(is_own, 8.8, 4.5), 1.0) * 2) / 2, 1, 10)
        times = day_ts("2023-01-01") + np.sort(random.integers(0, 700 * DAY_S, len(rated)))
        name = (_user(user),)
        for content, rating, at in zip(rated.tolist(), values.tolist(), times.tolist(), strict=True):
            members = {"user": name, "content": (f"content:{OURS}:{content}",)}
            yield Hyperedge("RATED", members, SOURCE, {"rating": rating, "simulated": True}, at)

    def _rated(self, user: int, wanted: int, random: np.random.Generator) -> np.ndarray:
        """(wanted,) int64 numbers of different contents, in the order in which they are rated."""
        config, taste = self.config, user % self.config.tastes
        own = np.arange(taste, config.contents, config.tastes)
        others = np.setdiff1d(np.arange(config.contents), own, assume_unique=True)
        mine = min(len(own), int(random.binomial(wanted, config.faithful_share)) if len(others) else wanted)
        mine = max(mine, wanted - len(others))
        found = np.concatenate([_drawn(own, mine, random), _drawn(others, wanted - mine, random)])
        return random.permutation(found)


def _drawn(numbers: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` different ones of ``numbers``, (n,); the chance of place j falls as one over its root.

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing
    Letters 97(5), 2006: the largest keys u^(1/w), here as the smallest of exponentials divided by weights.
    """
    keys = random.exponential(size=len(numbers)) * np.sqrt(np.arange(1, len(numbers) + 1))
    return numbers[np.argpartition(keys, count - 1)[:count]] if count else numbers[:0]


def _user(number: int) -> str:
    return f"user:large:{number}"


def _word(number: int) -> str:
    """A made-up word, another one for each number."""
    return "".join(_SYLLABLES[int(digit)] for digit in f"{number:02d}").title()
