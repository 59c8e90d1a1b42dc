"""Fails a run whose model could have seen what it is asked for.

A split states what it hides; this file does not believe it and looks into what the model is handed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from experiments.rules import NEVER, Likes, splits
from experiments.splits import Part, Split, SplitConfig, contents_of, known_contents, likes_of
from experiments.splits import split as cut
from kg import schema
from kg.arrays import GraphArrays
from models.interface import Training

PLACES, CONTENTS = 20, 60
"""How many likes of test, and how many other contents for each, are tried as a canary."""


class LeakageError(ValueError):
    """Something that a model must not know is in what it is handed."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked for and not found."""

    name: str
    looked_at: int
    """How many facts, pairs or contents were held against the rule."""


@dataclass(frozen=True)
class Audit:
    """What was checked; an audit that found something raises instead."""

    checks: tuple[Check, ...]


def audit(
    split: Split, graph: GraphArrays, cutter: Callable[[GraphArrays, SplitConfig], Split] = cut
) -> Audit:
    """Looks for leaks in both parts of a split, and plants a canary.

    Args:
        split: as models will see it.
        graph: the whole graph it was cut from.
        cutter: what cut it; called again on the graph with the canary.

    Raises:
        LeakageError: which rule is broken, by how much, with the first case and what to do.
    """
    checks = []
    for name, part in (("validation", split.validation), ("test", split.test)):
        checks += [
            _no_held_out_positive(name, part),
            _no_held_out_fact(name, part),
            _no_late_fact(name, part),
            _nothing_counted_late(name, part),
            _only_known_contents(name, part),
            _nothing_of_the_hidden(name, part),
        ]
    checks.append(_canary(split, graph, cutter))
    return Audit(tuple(checks))


def _no_held_out_positive(name: str, part: Part) -> Check:
    both = part.training.positives.multiply(part.held_out)
    if both.nnz:
        user, content = (int(place[0]) for place in both.nonzero())
        raise LeakageError(
            f"no {name} pair may be a training positive, {both.nnz} are "
            f"(user row {user}, content row {content}): mend the split"
        )
    return Check(f"{name}: no held-out pair among training positives", part.held_out.nnz)


def _no_held_out_fact(name: str, part: Part) -> Check:
    graph, looked_at = part.training.graph, part.held_out.nnz
    pairs = _pairs(*part.held_out.nonzero(), part.held_out.shape[1])
    for type in schema.USER_FACTS:
        contents = contents_of(graph, type)
        if contents is None or not len(contents):
            continue
        looked_at += len(contents)
        told = np.isin(_pairs(graph.incidence(type, "user")[1], contents, part.held_out.shape[1]), pairs)
        if told.any():
            raise LeakageError(
                f"no fact of the training graph may tell of a {name} pair, {told.sum()} of {type} do "
                f"({_fact_id(graph, type, told)}): leave them out of the training graph"
            )
    return Check(f"{name}: no held-out pair among the facts of the training graph", looked_at)


def _no_late_fact(name: str, part: Part) -> Check:
    graph, looked_at = part.training.graph, len(part.until)
    for type in graph.facts:
        starts = graph.starts(type)
        late = np.zeros(len(starts), bool)
        if type in schema.USER_FACTS:
            late |= starts > part.until[graph.incidence(type, "user")[1]]
            looked_at += len(starts)
        if part.as_of is not None:
            late |= starts > part.as_of
        if late.any():
            raise LeakageError(
                f"no fact of the training graph may be later than its cut, {late.sum()} of {type} are "
                f"for {name} ({_fact_id(graph, type, late)}): leave them out of the training graph"
            )
    return Check(f"{name}: no fact later than the cut", looked_at)


def _nothing_counted_late(name: str, part: Part) -> Check:
    graph, looked_at = part.training.graph, 0
    for type, table in graph.nodes.items():
        looked_at += table.num_rows
        counted = schema.observed(type, table.column_names)
        if part.as_of is None or not counted:
            continue
        days = table["observed_ts"].fill_null(np.iinfo(np.int64).max).to_numpy()
        for key in counted:
            late = (days > part.as_of) & table[key].is_valid().to_numpy()
            if late.any():
                raise LeakageError(
                    f"{key} of {type} may not be counted after {part.as_of}, {late.sum()} are for {name} "
                    f"({table['id'][int(np.argmax(late))].as_py()}): hide what was counted later"
                )
    return Check(f"{name}: nothing counted later than the cut", looked_at)


def _only_known_contents(name: str, part: Part) -> Check:
    graph = part.training.graph
    if part.cold is not None:
        return _every_content(name, part)
    unknown = part.training.rankable & ~known_contents(graph)
    if unknown.any():
        raise LeakageError(
            f"only contents that training knows may be ranked, {unknown.sum()} more may for {name} "
            f"({graph.id_of('Content', int(np.argmax(unknown)))}): build rankable from the training graph"
        )
    return Check(f"{name}: only contents known in training may be ranked", int(part.training.rankable.sum()))


def _every_content(name: str, part: Part) -> Check:
    """Where cold contents are asked for, fewer candidates than all would tell which are liked later."""
    missing = ~part.training.rankable
    if missing.any():
        raise LeakageError(
            f"every content must be rankable where cold ones are asked for, {missing.sum()} are not for "
            f"{name} ({part.training.graph.id_of('Content', int(np.argmax(missing)))}): the candidates would "
            "tell of the fold"
        )
    return Check(f"{name}: every content may be ranked", len(missing))


def _nothing_of_the_hidden(name: str, part: Part) -> Check:
    """No fact, like or time of a user or a content that training must not have met."""
    graph, looked_at = part.training.graph, 0
    hidden = [("an unseen user", part.unseen, "user"), ("a cold content", part.cold, "content")]
    for what, mask, role in hidden:
        for type in schema.USER_FACTS:
            rows = graph.incidence(type, "user")[1] if role == "user" else contents_of(graph, type)
            looked_at += 0 if rows is None else len(rows)
            if mask is None or rows is None or not mask[rows].any():
                continue
            raise LeakageError(
                f"training may know nothing of {what}, {mask[rows].sum()} facts of {type} tell for {name} "
                f"({_fact_id(graph, type, mask[rows])}): leave them out of the training graph"
            )
        likes = part.training.positives.nonzero()[0 if role == "user" else 1]
        if mask is not None and mask[likes].any():
            raise LeakageError(
                f"training may know nothing of {what}, {mask[likes].sum()} training positives of {name} "
                f"are of one (row {likes[mask[likes]][0]}): mend the split"
            )
    return Check(f"{name}: nothing of unseen users and cold contents in training", looked_at)


def _canary(split: Split, graph: GraphArrays, cutter: Callable[[GraphArrays, SplitConfig], Split]) -> Check:
    """Lets one held-out like be of another content: what models are handed must stay the same to the bit."""
    planted = plant(split, graph)
    if planted is None:
        return Check("canary: none could be planted, all of test shares its second with training", 0)
    again = cutter(planted, split.config)
    for name, ours, theirs in (("validation", split.fit, again.fit), ("test", split.full, again.full)):
        if fingerprint(ours) != fingerprint(theirs):
            raise LeakageError(
                f"a canary planted in test must change nothing that a model sees, it changed what {name} "
                "trains on: build every part of the split from training facts alone"
            )
    return Check("canary: an interaction planted in test changes nothing that models see", 1)


def plant(split: Split, graph: GraphArrays) -> GraphArrays | None:
    """The graph with the content of one test rating changed to one that its user never met.

    The rating is drawn by the split's seed among those later than all that its user has in training, and the
    content so that the split's rule leaves the same likes to training. A pair of which something else was
    told is no canary: a split hides that too, because the pair is held out. None where no rating is left.
    """
    likes = likes_of(graph, split.config.positive_rating, split.config.seed)
    width = likes.content_count
    in_test = np.isin(likes.pairs, _pairs(*split.test.held_out.nonzero(), width))
    told = _told(graph, schema.USER_FACTS, width)
    others = _told(graph, tuple(type for type in schema.USER_FACTS if type != "RATED"), width)
    no_cut = split.test.until[likes.users] == NEVER  # time plays no part there
    late = no_cut | (likes.times > split.test.until[likes.users])
    places = np.flatnonzero(in_test & late & ~np.isin(likes.pairs, others))
    rng = np.random.default_rng(split.config.seed)
    for place in rng.permutation(places)[:PLACES]:
        user = int(likes.users[place])
        unmet = np.setdiff1d(np.arange(width), told[told // width == user] % width)
        for content in rng.permutation(unmet)[:CONTENTS]:
            if _leaves_the_same(split, likes, int(place), int(content)):
                return _moved(graph, user, int(likes.contents[place]), int(content))
    return None


def _leaves_the_same(split: Split, likes: Likes, place: int, content: int) -> bool:
    """Whether training and validation have the same likes when one of test is of another content."""
    contents = likes.contents.copy()
    contents[place] = content
    rule = splits.build(split.config.name, split.config.settings)
    moved = replace(likes, contents=contents)
    for part in (split.test, split.validation):
        cut = rule(moved)
        moved = moved.only(~cut.hidden)
        ours = part.training.positives
        if not np.array_equal(np.sort(_pairs(*ours.nonzero(), likes.content_count)), np.sort(moved.pairs)):
            return False
    return True


def _moved(graph: GraphArrays, user: int, before: int, after: int) -> GraphArrays:
    """The graph whose ratings of one content by one user are of another content."""
    users, contents = graph.pairs("RATED")
    changed = np.where((users == user) & (contents == before), after, contents)
    table = graph.facts["RATED"]
    column = table.column_names.index("content")
    table = table.set_column(column, "content", pa.array(changed.astype(np.int32)))
    return replace(graph, facts={**graph.facts, "RATED": table}, folder=None)


def _told(graph: GraphArrays, types: Sequence[str], width: int) -> np.ndarray:
    """(m,) int64 pairs that somebody did something about, at any time."""
    pairs = [np.empty(0, np.int64)]
    for type in types:
        contents = contents_of(graph, type)
        if contents is not None:
            pairs.append(_pairs(graph.incidence(type, "user")[1], contents, width))
    return np.concatenate(pairs)


def fingerprint(training: Training) -> str:
    """A hash of all that a model is handed."""
    digest = hashlib.blake2b(digest_size=16)
    for matrix in (training.positives, training.times):
        for array in (matrix.indptr.astype("<i8"), matrix.indices.astype("<i8"), matrix.data):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(np.packbits(training.rankable).tobytes() + str(training.seed).encode())
    for tables in (training.graph.nodes, training.graph.facts):
        for type in sorted(tables):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, tables[type].schema) as writer:
                writer.write_table(tables[type].combine_chunks())
            digest.update(type.encode())
            digest.update(sink.getvalue())
    return digest.hexdigest()


def _pairs(users: np.ndarray, contents: np.ndarray, width: int) -> np.ndarray:
    return users.astype(np.int64) * width + contents


def _fact_id(graph: GraphArrays, type: str, mask: np.ndarray) -> str:
    return graph.facts[type]["id"][int(np.argmax(mask))].as_py()
