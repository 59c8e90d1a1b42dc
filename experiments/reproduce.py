"""Published numbers run again: the authors' split, settings chosen on validation, test measured once.

Ours stands beside the paper's; a folder with another split is told, and where the right one is to be had."""

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.loading import ROOT, load
from configs.registry import SettingError, UnknownName, fill, import_parts
from experiments.evaluation import EvaluationConfig, Interval, evaluate
from experiments.published import Published, PublishedConfig, published
from experiments.run import code_revision, machine, seeded
from experiments.split_files import MissingSplitError
from experiments.training import FitConfig
from experiments.tuning import BudgetConfig, fitted, lay_over, tune
from models.interface import recommenders

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SplitCard:
    """A file in ``configs/published/``: a split that others measured on."""

    name: str
    title: str
    users: int
    contents: int
    pairs: int
    """Of all parts together."""
    where: str
    """Whose files they are, by name."""
    caution: str
    """What differs from how the papers went about it."""
    metrics: tuple[str, ...]
    choose: str
    """Metric on validation that settings are chosen by."""
    load: Mapping[str, Any]
    """Settings of :class:`PublishedConfig`."""
    rows: tuple[Mapping[str, Any], ...]
    """Published values: ``method``, a value each metric, ``source``."""


@dataclass(frozen=True)
class Reproduction:
    """A file in ``configs/reproduce/``: one method on one published split."""

    name: str
    split: str
    """A file in ``configs/published/``."""
    method: str
    """As the papers call it; its row of the split is what ours is held against."""
    model: Mapping[str, Any]
    train: Mapping[str, Any] = field(default_factory=dict)
    tune: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        import_parts("models")
        settings = dict(self.model)
        config = recommenders.config_of(settings.pop("name"))
        if config is not None:
            fill(config, settings, f"model of {self.name!r}")
        fill(FitConfig, self.train, "train")
        fill(BudgetConfig, self.budget, "budget")
        lay_over(self.model, self.train, {key: None for key in self.tune})


@dataclass(frozen=True)
class Beside:
    """One metric, ours beside the paper's."""

    metric: str
    ours: Interval
    paper: float | None
    """None where no paper is known to give this method on this split."""
    difference: float | None
    """Ours minus the paper's; None on another split too."""
    is_inside: bool | None
    """True if the paper's value lies within our interval over users."""


@dataclass(frozen=True)
class Reproduced:
    """What came out."""

    name: str
    method: str
    split: str
    is_same_split: bool
    """False where users and contents are not those that were published: then nothing can be compared."""
    notes: tuple[str, ...]
    beside: tuple[Beside, ...]
    others: tuple[Mapping[str, Any], ...]
    """All published rows of this split."""
    settings: Mapping[str, Any]
    """As chosen on validation."""
    validation: float
    trials: int
    test_users: int
    split_hash: str
    seed: int
    code_revision: str
    machine: Mapping[str, Any]
    seconds: Mapping[str, float]
    """Stage -> wall time."""


def names() -> list[str]:
    """All reproductions."""
    return sorted(path.stem for path in (ROOT / "reproduce").glob("*.yaml"))


def reproduction(name: str, overrides: Sequence[str] = ()) -> tuple[Reproduction, SplitCard]:
    """A reproduction and its split by name.

    Raises:
        UnknownName: there is none of this name.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.3) or names()
        raise UnknownName(f"no reproduction is called {name!r}; nearest: {', '.join(near)}")
    found = fill(Reproduction, load(f"reproduce/{name}.yaml", overrides), f"reproduction {name!r}")
    return found, fill(SplitCard, load(f"published/{found.split}.yaml"), f"split {found.split!r}")


def reproduce(
    name: str, folder: Path | None, overrides: Sequence[str] = (), progress: Progress | None = None
) -> Reproduced:
    """Runs a published method on its published split, chosen on validation and measured once on test.

    Recall@k divides by all held-out contents of a user, and NDCG@k by the best gain of min(k, held out), both
    averaged over the users of whom something is held out: as LightGCN's own code does, so that the numbers
    mean the same.

    Args:
        name: a file in ``configs/reproduce/``.
        folder: where the split lies; None says where to get it.
        overrides: ``key.key=value`` laid over that file.
        progress: told in words what is done now.

    Raises:
        SettingError: no folder, or one without the files; the sentence says where they are to be had.
        SplitFileError: a file is spoilt.
    """
    told, card = reproduction(name, overrides)
    say, seconds, started = progress or (lambda _: None), {}, time.monotonic()
    say("read the split")
    made = _read(card, folder)
    cut = seeded(made.split, told.seed)
    seconds["read"] = time.monotonic() - started
    budget = fill(BudgetConfig, {**told.budget, "metric": card.choose}, "budget")
    started = time.monotonic()
    tuning = tune(told.model, told.train, told.tune, cut, budget, say)
    seconds["tune"] = time.monotonic() - started
    started = time.monotonic()
    say("fit on training and validation")
    epochs = tuning.best.epochs or 1
    model, _, _ = fitted(tuning.model, tuning.train, cut.full, None, epochs, say)
    seconds["fit"] = time.monotonic() - started
    started = time.monotonic()
    say("measure on test")
    report = evaluate(model, cut.test, EvaluationConfig(metrics=card.metrics, list_metrics=()))
    seconds["measure"] = time.monotonic() - started
    row = next((row for row in card.rows if row["method"] == told.method), {})
    return Reproduced(
        told.name,
        told.method,
        card.title,
        _is_same(made, card),
        tuple(_notes(made, card)),
        tuple(
            _beside(metric, report.summary[metric], row.get(metric), _is_same(made, card))
            for metric in card.metrics
        ),
        card.rows,
        {key: value for key, value in tuning.model.items() if key != "name"},
        tuning.best.value,
        len(tuning.trials),
        len(report.users),
        made.split.hash,
        told.seed,
        code_revision(),
        machine(),
        seconds,
    )


def where(card: SplitCard) -> str:
    """Where a split is to be had, in a sentence."""
    return f"{card.title} ({card.users:,} users × {card.contents:,} contents) is {card.where}"


def _read(card: SplitCard, folder: Path | None) -> Published:
    if folder is None:
        raise SettingError(f"{where(card)}: get the files and give their folder with --path")
    try:
        return published(card.name, folder, fill(PublishedConfig, card.load, "load"))
    except MissingSplitError as error:
        raise SettingError(f"{error}. {where(card)}") from None


def _is_same(made: Published, card: SplitCard) -> bool:
    return (made.users, made.contents) == (card.users, card.contents)


def _notes(made: Published, card: SplitCard) -> list[str]:
    pairs = made.training_pairs + made.test_pairs
    notes = [
        f"Read {', '.join(made.files)} ({made.form}): {made.users:,} users × {made.contents:,} contents, "
        f"{made.training_pairs:,} pairs to learn from, {made.validation_pairs:,} of them to choose by, "
        f"{made.test_pairs:,} for test."
    ]
    if not _is_same(made, card):
        notes.append(
            f"This is another split: {card.title} has {card.users:,} users × {card.contents:,} contents. "
            f"Nothing below can be compared with the papers. {where(card)}."
        )
    elif pairs != card.pairs:
        notes.append(f"{pairs:,} pairs in all, published are {card.pairs:,}: compare with care.")
    notes += [f"{count:,} {what}." for what, count in made.repairs.items()]
    return [*notes, f"{card.caution[0].upper()}{card.caution[1:]}."]


def _beside(metric: str, ours: Interval, paper: float | None, is_same: bool) -> Beside:
    if paper is None or not is_same:
        return Beside(metric, ours, paper, None, None)
    return Beside(metric, ours, paper, ours.value - paper, ours.low <= paper <= ours.high)
