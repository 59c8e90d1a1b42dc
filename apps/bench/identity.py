"""Identity, measured: films of two real catalogues with their ids hidden, and planted duplicates."""

from collections.abc import Callable
from dataclasses import dataclass

from configs.home import Home
from kg.catalogue_pairs import HiddenIds, films, fit_hidden, hide_ids, measure
from kg.datasets import JOINED, STREAMING, graph_name, open_dataset
from kg.matching import Matchers
from kg.planted_pairs import fit_planted, measure_planted
from kg.world_duplicates import NOISES

_BARS = {"written": 0.99, "mistyped": 0.97, "spoilt": 0.93}
_GIVEN_BAR, _CORRECTED_BAR, _ERROR_BAR = (0.975, 0.95), (0.99, 0.95), 0.02


@dataclass(frozen=True)
class Row:
    """One measurement beside its bars."""

    what: str
    joined: int
    true: int
    precision: float
    recall: float
    f1: float
    bar: str
    is_met: bool
    note: str = ""


def fit_for(data: str | None, home: Home, count: int, tell: Callable[[str], None]) -> Matchers:
    """Weights for a graph: of real catalogues where its folder has them, else of generated ones."""
    tell("generated catalogues")
    planted = fit_planted(count)
    if graph_name(data) not in (STREAMING, JOINED):
        return planted
    return Matchers(
        fit_hidden(_hidden(data, home, tell), "half of MovieLens small, JustWatch"), planted.person
    )


def measure_all(
    data: str | None, home: Home, count: int, seed: int, tell: Callable[[str], None], fitted: int = 400
) -> list[Row]:
    """Planted duplicates of every noise; and the real catalogues, where the folder ``data`` has them."""
    tell("generated catalogues: fit")
    planted = fit_planted(fitted)
    rows = []
    for noise in NOISES:
        tell(f"generated catalogues: {noise}")
        rows.append(_planted_row(planted, noise, count, seed))
    if graph_name(data) in (STREAMING, JOINED):
        rows += _hidden_rows(_hidden(data, home, tell))
    return rows


def _planted_row(matchers: Matchers, noise: str, count: int, seed: int) -> Row:
    found = measure_planted(matchers, noise, count, seed)  # type: ignore[arg-type]
    told, bar = found.contents, _BARS[noise]
    return Row(
        f"planted duplicates, {noise}",
        told.joined,
        told.true,
        told.precision,
        told.recall,
        told.f1,
        f"F1 {bar}, none across",
        told.f1 >= bar and not found.across,
        f"{found.across} nodes with two strong ids; people F1 {found.people.f1:.3f}",
    )


def _hidden(data: str | None, home: Home, tell: Callable[[str], None]) -> HiddenIds:
    known = {source.name: source for source in open_dataset(data, home).sources}
    tell("MovieLens and JustWatch: reading")
    left, right = films(known["movielens"]), films(known["justwatch"])
    tell("MovieLens and JustWatch: pairs")
    return hide_ids(left, right)


def _hidden_rows(hidden: HiddenIds) -> list[Row]:
    found = measure(hidden, fit_hidden(hidden, "half of MovieLens small, JustWatch"))
    rows = []
    for what, told, bars in (
        ("ids as given", found.given, _GIVEN_BAR),
        ("wrong ids corrected", found.corrected, _CORRECTED_BAR),
    ):
        is_met = (
            told.precision >= bars[0] and told.recall >= bars[1] and found.calibration_error <= _ERROR_BAR
        )
        rows.append(
            Row(
                f"MovieLens ↔ JustWatch, {what}",
                told.joined,
                told.true,
                told.precision,
                told.recall,
                told.f1,
                f"precision {bars[0]}, recall {bars[1]}, error {_ERROR_BAR}",
                is_met,
                f"calibration error {found.calibration_error:.4f} over {found.pairs:,} pairs, "
                f"{found.calibration_error_near:.4f} over those of 5% or more",
            )
        )
    return rows
