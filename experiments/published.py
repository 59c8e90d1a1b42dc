"""Splits that others published, as ours: their users, contents and test pairs, and a validation part.

u users · i contents · p pairs. Only who met what is known of them, so the graph has nodes and no facts."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.registry import SettingError
from experiments.audit import LeakageError, fingerprint
from experiments.rules import Likes, drawn, last_of_each
from experiments.split_files import Interactions, SplitFiles, read_split
from experiments.splits import NEVER, Part, Split, SplitConfig
from kg.arrays import GraphArrays, from_records
from kg.records import Hyperedge, Node
from models.interface import Training

UNKNOWN_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class PublishedConfig:
    """How a published split is made into ours."""

    validation_share: float = 0.1
    """Of each user's training pairs, drawn by the seed, where no validation file is; above 0, below 1."""
    core: int = 0
    """Users and contents with fewer pairs are left out again and again, as SASRec's authors do with 5; 0
    keeps all. Only where one file holds everything."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1 or self.core < 0:
            raise SettingError(
                "a published split needs validation_share above 0 and below 1 and core of 0 or more, got "
                f"{self.validation_share} and {self.core}"
            )


@dataclass(frozen=True)
class Published:
    """A published split, and what was met on the way."""

    split: Split
    form: str
    files: tuple[str, ...]
    users: int
    contents: int
    training_pairs: int
    """With those of validation."""
    validation_pairs: int
    test_pairs: int
    repairs: Mapping[str, int]
    """What was mended -> how often."""


def published(name: str, folder: Path, config: PublishedConfig | None = None) -> Published:
    """Loads the split in ``folder``; equal pairs and config give equal splits, in whichever form they lie.

    Validation is cut from training alone; a model may be fitted again on both before test measures it once.
    Where one file holds everything, the last pair of each user with three or more is for test, the one before
    it for validation. Every content may be ranked, as in the papers.

    Args:
        name: what the graph is called.
        folder: see :func:`experiments.split_files.read_split` for the forms.
        config: how validation is cut.

    Raises:
        SplitFileError: a file is missing or spoilt beyond repair.
        SettingError: nothing is left to learn from, to choose by or to measure.
    """
    config, files = config or PublishedConfig(), read_split(folder)
    repairs: Counter[str] = Counter()
    for one in (files.training, files.validation, files.test):
        repairs.update(one.repairs if one else {})
    users, contents, parts = _coded(files)
    train, valid, test = _cut(parts, (len(users), len(contents)), config, repairs)
    if files.test is None and config.core:
        users, contents, (train, valid, test) = _used((train, valid, test), users, contents)
    graph = _graph(name, users, contents)
    made = _split(name, graph, train, valid, test, config)
    return Published(
        made,
        files.form,
        files.names,
        len(users),
        len(contents),
        len(train.users) + len(valid.users),
        len(valid.users),
        len(test.users),
        dict(+repairs),
    )


def _coded(files: SplitFiles) -> tuple[list[str], list[str], list[Likes | None]]:
    """Names of users and of contents in order, and each file's pairs by their places."""
    there = [files.training, files.validation, files.test]
    users, user_codes = _codes([one and one.users for one in there])
    contents, content_codes = _codes([one and one.contents for one in there])
    shape = len(users), len(contents)
    parts = [
        None if one is None else _likes(user_codes[place], content_codes[place], one, shape)
        for place, one in enumerate(there)
    ]
    return users, contents, parts


def _codes(columns: Sequence[pa.Array | None]) -> tuple[list[str], list[np.ndarray | None]]:
    """Names of all ids that occur, in order, and each column as places among them; numbers by size."""
    there = [column for column in columns if column is not None]
    if any(pa.types.is_string(column.type) for column in there):
        there = [column.cast(pa.string()) for column in there]
    encoded = pa.chunked_array(there).combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    codes = place_of[encoded.indices.to_numpy()]
    names = encoded.dictionary.take(pa.array(order)).to_pylist()
    if names and isinstance(names[0], int):
        width = len(str(names[-1]))  # ids of a graph are sorted as text
        names = [f"{name:0{width}d}" for name in names]
    bounds = np.cumsum([0, *(len(column) for column in there)])
    parts = iter(np.split(codes, bounds[1:-1]))
    return names, [None if column is None else next(parts) for column in columns]


def _likes(users: np.ndarray, contents: np.ndarray, one: Interactions, shape: tuple[int, int]) -> Likes:
    times = np.full(len(users), UNKNOWN_TIME) if one.times is None else one.times
    return Likes(users, contents, times, *shape)


def _cut(
    parts: Sequence[Likes | None], shape: tuple[int, int], config: PublishedConfig, repairs: Counter[str]
) -> tuple[Likes, Likes, Likes]:
    """Training alone, validation and test; no pair is in two of them."""
    everything, valid, test = parts
    train = _ordered(everything, config.seed, repairs, "training")
    if test is None:
        train = _core(train, config.core)
        last = last_of_each(train, _at_least(train, 3)).held_out
        test, train = train.only(last), train.only(~last)
        chosen = last_of_each(train, _at_least(train, 2)).held_out
        return train.only(~chosen), train.only(chosen), test
    test = _without(_ordered(test, config.seed, repairs, "test"), train, repairs, "test")
    if valid is not None:
        valid = _without(_ordered(valid, config.seed, repairs, "validation"), train, repairs, "validation")
        return train, valid, _without(test, valid, repairs, "test")
    chosen = _drawn_share(train, config)
    return train.only(~chosen), train.only(chosen), test


def _ordered(likes: Likes, seed: int, repairs: Counter[str], what: str) -> Likes:
    """Each pair once, the first time it is told, by user, time and a draw of the seed."""
    pairs = likes.users * likes.content_count + likes.contents
    by_pair = np.lexsort((likes.times, pairs))
    pairs, first = np.unique(pairs[by_pair], return_index=True)
    if len(pairs) < len(likes.users):
        repairs[f"{what} pairs told twice, kept once"] += len(likes.users) - len(pairs)
    kept = by_pair[first]
    order = kept[np.lexsort((drawn(pairs, seed), likes.times[kept], likes.users[kept]))]
    return replace(likes, users=likes.users[order], contents=likes.contents[order], times=likes.times[order])


def _without(likes: Likes, known: Likes, repairs: Counter[str], what: str) -> Likes:
    """Only pairs that ``known`` does not hold: nobody can be asked for what they have."""
    width = likes.content_count
    pairs, told = likes.users * width + likes.contents, np.sort(known.users * width + known.contents)
    there = told[np.minimum(np.searchsorted(told, pairs), len(told) - 1)] == pairs if len(told) else pairs < 0
    if there.any():
        repairs[f"{what} pairs that are learned from, left out"] += int(there.sum())
    return likes.only(~there)


def _drawn_share(train: Likes, config: PublishedConfig) -> np.ndarray:
    """(p,) bool: a share of each user's pairs, at least one of those who have three or more."""
    pairs = train.users * train.content_count + train.contents
    order = np.lexsort((drawn(pairs, config.seed), train.users))
    counts = np.bincount(train.users, minlength=train.user_count)
    wanted = np.maximum(np.floor(counts * config.validation_share + 1e-9), counts >= 3).astype(np.int64)
    starts = np.cumsum(counts) - counts
    chosen = np.zeros(len(pairs), bool)
    users = train.users[order]
    chosen[order] = np.arange(len(pairs)) - starts[users] < wanted[users]
    return chosen


def _core(likes: Likes, least: int) -> Likes:
    """Users and contents with fewer pairs than ``least`` leave until none has."""
    while least > 1:
        users = np.bincount(likes.users, minlength=likes.user_count)
        contents = np.bincount(likes.contents, minlength=likes.content_count)
        kept = (users[likes.users] >= least) & (contents[likes.contents] >= least)
        if kept.all():
            break
        likes = likes.only(kept)
    return likes


def _at_least(likes: Likes, least: int) -> np.ndarray:
    counts = np.bincount(likes.users, minlength=likes.user_count)
    return (counts >= least).astype(np.int64)


def _used(
    parts: Sequence[Likes], users: list[str], contents: list[str]
) -> tuple[list[str], list[str], tuple[Likes, ...]]:
    """Names and places without those that occur no more."""
    kept_users, kept_contents = (
        np.unique(np.concatenate([getattr(part, name) for part in parts])) for name in ("users", "contents")
    )
    closer = tuple(
        replace(
            part,
            users=np.searchsorted(kept_users, part.users),
            contents=np.searchsorted(kept_contents, part.contents),
            user_count=len(kept_users),
            content_count=len(kept_contents),
        )
        for part in parts
    )
    return [users[row] for row in kept_users], [contents[row] for row in kept_contents], closer


def _graph(name: str, users: Sequence[str], contents: Sequence[str]) -> GraphArrays:
    """Nodes of which nothing but the id is known, and no fact."""
    ids = {
        "User": [f"user:{name}:{key}" for key in users],
        "Content": [f"content:{name}:{key}" for key in contents],
    }
    # the columns of one node of each type are those of all: made whole, not node by node
    one = from_records(name, lambda type: [Node(type, known[0]) for known in [ids.get(type)] if known], _none)
    tables = {type: _nodes(one.nodes[type].schema, known) for type, known in ids.items()}
    digest = hashlib.blake2b(digest_size=16)
    for type, known in ids.items():
        digest.update("\n".join((type, *known)).encode())
    return GraphArrays(name, tables, {}, digest.hexdigest())


def _none(type: str) -> Sequence[Hyperedge]:
    return ()


def _nodes(columns: pa.Schema, ids: Sequence[str]) -> pa.Table:
    known = {"id": pa.array(ids, pa.string())}
    return pa.table([known.get(one.name, pa.nulls(len(ids), one.type)) for one in columns], schema=columns)


def _split(
    name: str, graph: GraphArrays, train: Likes, valid: Likes, test: Likes, config: PublishedConfig
) -> Split:
    for what, likes in (("training", train), ("validation", valid), ("test", test)):
        if not len(likes.users):
            raise SettingError(
                f"{name} leaves no pair for {what}: check the files or the share of validation"
            )
    both = _joined(train, valid, config.seed)
    validation, tested = _part(graph, train, valid, config.seed), _part(graph, both, test, config.seed)
    settings = SplitConfig("published", {"name": name, **vars(config)}, seed=config.seed)
    return Split(settings, name, graph.hash, _hash(validation, tested), validation, tested)


def _joined(one: Likes, other: Likes, seed: int) -> Likes:
    """Both together, by user, time and a draw of the seed."""
    users, contents, times = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("users", "contents", "times")
    )
    order = np.lexsort((drawn(users * one.content_count + contents, seed), times, users))
    return replace(one, users=users[order], contents=contents[order], times=times[order])


def _part(graph: GraphArrays, seen: Likes, held_out: Likes, seed: int) -> Part:
    may_rank = np.ones(seen.content_count, bool)
    training = Training(graph, seen.matrix(), seen.matrix(seen.times), may_rank, seed)
    part = Part(training, held_out.matrix(), np.full(seen.user_count, NEVER), None)
    both = training.positives.multiply(part.held_out).nnz
    if both:
        raise LeakageError(f"no held-out pair may be a training positive, {both} are: mend the split")
    return part


def _hash(validation: Part, test: Part) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (validation, test):
        digest.update(fingerprint(part.training).encode())
        held_out = part.held_out
        digest.update(held_out.indptr.astype("<i8").tobytes() + held_out.indices.astype("<i8").tobytes())
    return digest.hexdigest()
