"""POST /v1/recommendations: what somebody should watch, where, until when and why."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from kg.feedback import FeedbackEvent, hashed_user
from models.explanation import explain
from models.steps import Moved
from serve.endpoints import Endpoint, Reply, Request, endpoints
from serve.filters import Context, Filters, Name, hard_filters
from serve.gateway import Gateway
from serve.offers import OfferReply, platform_ids, region_code, tell
from serve.shortlist import Limits, Person, Shortlist, person, shortlist
from serve.snapshot import Snapshot
from serve.strangers import Strangers, sources_of
from serve.told_steps import Clock, StepReply, instant_step, places_changed, told

_LISTS_KEPT = 5000  # reasons of so many lists, about 10 kB each
_REASONS = 2  # causes, and connections, that a title is told with


class AdaptationSteps(Request):
    """Steps of the adaptation loop that this answer does without; what the service has off stays off.

    Such an answer is for comparing: in a trial it counts as nothing that somebody was shown.
    """

    live_history: bool = Field(True, description="off: the history as the version's training saw it")
    instant_tier: bool = Field(True, description="off: the person's adapter bends nothing")

    @property
    def is_whole(self) -> bool:
        """True if nothing is left out."""
        return self.live_history and self.instant_tier


class RecommendationsRequest(Request):
    """One person's evening.

    With ``filters.include_rated``, ``filters.include_unavailable`` and ``diversity`` 0 the reply is the bare
    ranking of the model as it was measured offline: neither feedback nor the fallback for strangers enters.
    """

    user_id: Name = Field(description="anybody: somebody unknown is shown what is popular")
    region: str | None = Field(
        None, max_length=20, description="ISO 3166-1 alpha-2; the person's own where left out"
    )
    subscriptions: list[Name] | None = Field(
        None, min_length=1, max_length=100, description="platforms that count; all where left out"
    )
    n: int = Field(10, ge=1, le=50, description="length of the list")
    context: Context = Context()
    diversity: float = Field(
        0.15,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="0 is the order of the scores; MMR's λ is 1 − diversity",
    )
    exclude: list[Name] = Field([], max_length=1000, description="content ids to leave out")
    filters: Filters = Filters()
    adaptation: AdaptationSteps = Field(AdaptationSteps(), description="to see what each step moves")
    at: int | None = Field(None, ge=0, le=4_102_444_800, description="UTC seconds; now where left out")

    @property
    def is_bare(self) -> bool:
        """True if the model's own ranking is asked for."""
        return self.filters.include_rated and self.filters.include_unavailable and self.diversity == 0


class Why(BaseModel):
    """Reasons. What the model did not read is a connection, never a because."""

    because: list[str] = Field(description="what of the history gave most to the score")
    connections: list[str] = Field(description="what ties it to the history in the graph")
    adapted: str | None = Field(None, description="how far the person's own adapter lifted it, if it did")


class Recommendation(BaseModel):
    """One content of the list."""

    rank: int
    content_id: str
    title: str
    year: int | None
    kind: str | None
    minutes: int | None
    genres: list[str]
    score: float
    offers: list[OfferReply]
    why: Why
    simulated: bool = Field(description="True where an offer told here is made up")


class RecommendationsReply(Reply):
    """A list, best first."""

    contents: list[Recommendation]
    cold_start: bool = Field(description="True where nothing liked is known of the person: popular contents")
    note: str | None = Field(description="what is worth knowing of this list")
    model_version: str
    graph: str
    graph_hash: str
    region: str | None
    subscriptions: list[str] | None
    at: int
    simulated: bool = Field(description="True where an offer in this reply is made up")
    steps: list[StepReply]
    timings_ms: dict[str, float]


@dataclass(frozen=True)
class _Scored:
    """Scores of one person, and where they come from."""

    scores: np.ndarray
    """(i,)"""
    rung: str | None
    """Of the ladder, which gave most; None where the model alone answered."""
    is_cold_start: bool
    said: str


@dataclass(frozen=True)
class _Bent:
    """What the instant tier made of scores."""

    scores: np.ndarray
    """(i,)"""
    moved: list[Moved]
    steps: list[StepReply]
    by: str = ""
    """What moved them, as the person is told."""


@endpoints.register("recommendations")
class Recommendations(Endpoint):
    """Scores, filters, diversifies, and says where and why.

    Live history is what training saw and what the log of feedback says since: an event changes the answer.
    """

    name = "recommendations"
    method = "POST"
    path = "/v1/recommendations"
    summary = "What somebody should watch, where, until when and why"
    Request = RecommendationsRequest
    Reply = RecommendationsReply

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._told: OrderedDict[tuple[object, ...], list[Why]] = OrderedDict()
        self._lock = threading.Lock()
        self._strangers = Strangers(gateway.home)

    def answer(self, request: RecommendationsRequest) -> RecommendationsReply:
        snapshot = self.gateway.snapshot()
        if request.is_bare:  # a measurement, not somebody's evening: no trial
            return self._answer(request, snapshot)
        return self.gateway.arms.answer(
            hashed_user(request.user_id),
            snapshot,
            self.gateway.trial,
            lambda version: self._answer(request, version),
            lambda reply: tuple(content.content_id for content in reply.contents),
            is_shown=request.adaptation.is_whole,
        )

    def _answer(self, request: RecommendationsRequest, snapshot: Snapshot) -> RecommendationsReply:
        clock = Clock()
        if not request.is_bare:
            snapshot = self.gateway.adaptation.answering(snapshot)
        events = [] if request.is_bare else self.gateway.feedback.of_user(hashed_user(request.user_id))
        who = self._person(snapshot, request, events)
        region, subscriptions = _where(snapshot, request, who)
        at = self.gateway.now() if request.at is None else request.at
        scored = self._scores(snapshot, who, request.is_bare, region)
        clock.lap("score")
        allowed, taken = hard_filters(snapshot, request.filters, request.context, who.hidden, request.exclude)
        available = None
        if region is not None and not request.filters.include_unavailable:
            available = self.gateway.available(snapshot, region, subscriptions, at)
        bent = self._bent(request, snapshot, events, scored, _both(allowed, available), at)
        clock.lap("adapt")
        limits = Limits(request.n, request.diversity, allowed, available)
        found = shortlist(bent.scores, snapshot.genres, limits)
        clock.lap("rank")
        whys = _lifted(self._whys(snapshot, who, found.rows.tolist(), scored.rung), found, bent)
        clock.lap("explain")
        contents = _contents(snapshot, found, whys, region, subscriptions or (), at)
        clock.lap("offers")
        return RecommendationsReply(
            contents=contents,
            cold_start=scored.is_cold_start,
            note=_note(snapshot, who, scored.is_cold_start, region, len(contents), request),
            model_version=snapshot.version.ref,
            graph=snapshot.graph.name,
            graph_hash=snapshot.graph.hash,
            region=region,
            subscriptions=None if subscriptions is None else list(subscriptions),
            at=at,
            simulated=any(content.simulated for content in contents),
            steps=[
                StepReply(name="score", said=scored.said),
                *(StepReply(name=one.name, said=one.said, removed=one.removed) for one in taken),
                *bent.steps,
                *(told(snapshot, step, request.n, request.diversity) for step in found.steps),
            ],
            timings_ms=clock.laps,
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        users = snapshot.graph.ids("User")[:1]
        return {"user_id": users[0] if users else "somebody", "n": 5}

    def _whys(self, snapshot: Snapshot, who: Person, rows: list[int], rung: str | None) -> list[Why]:
        """Reasons of a list; they hold while version and history stay, so they are kept a while."""
        history = who.users.history.indices.tobytes()
        listed = (snapshot.version.ref, int(who.users.rows[0]), history, rung, tuple(rows))
        whys = self._told.get(listed)
        if whys is None:
            whys = [_why(snapshot, who, row, rung) for row in rows]
            with self._lock:
                self._told[listed] = whys
                while len(self._told) > _LISTS_KEPT:
                    self._told.popitem(last=False)
        return whys

    def _scores(self, snapshot: Snapshot, who: Person, is_bare: bool, region: str | None) -> _Scored:
        answer = None if is_bare else self._strangers.answer(snapshot, who, region)
        if answer is None:
            return _scores(snapshot, who, is_bare)
        events = who.users.history.nnz
        return _Scored(answer.scores[0], answer.rungs[0], not events, sources_of(answer, events))

    def _person(
        self, snapshot: Snapshot, request: RecommendationsRequest, events: list[FeedbackEvent]
    ) -> Person:
        is_live = self.gateway.adaptation.config.live_history and request.adaptation.live_history
        return person(
            snapshot,
            hashed_user(request.user_id),
            events,
            self.gateway.positive_rating,
            not request.filters.include_rated,
            is_live,
        )

    def _bent(
        self,
        request: RecommendationsRequest,
        snapshot: Snapshot,
        events: list[FeedbackEvent],
        scored: _Scored,
        allowed: np.ndarray,
        at: int,
    ) -> _Bent:
        """Scores as the person's adapter bends them; as they were where the tier is off, and why."""
        adaptation, scores = self.gateway.adaptation, scored.scores
        if request.is_bare:
            return _Bent(scores, [], [])
        tier, why_off = adaptation.tier(snapshot), adaptation.why_off(snapshot)
        if not request.adaptation.instant_tier:
            why_off = "the request does without"
        elif scored.rung is not None:
            why_off = why_off or "an adapter bends the scores of the model, and they did not answer"
        learned = None
        if tier is not None and why_off is None:
            learned = adaptation.record(tier, hashed_user(request.user_id), events)
            why_off = "the person's adapter cannot be read" if learned is None else None
        if learned is None:
            self.gateway.counters.count_adapted("off")
            step = StepReply(name="instant tier", said=f"left out: {why_off}", is_left_out=True)
            return _Bent(scores, [], [step])
        found = tier.bent(scores, learned.record, at, request.context.minutes)
        is_bent = found is not scores
        moved = places_changed(scores, found, allowed, request.n) if is_bent else []
        self.gateway.counters.count_adapted("bent" if is_bent else "nothing_learned")
        by = "your own feedback" if learned.events else "what you liked last"
        return _Bent(found, moved, [instant_step(snapshot, tier, learned, moved, request.n)], by)


def _where(
    snapshot: Snapshot, request: RecommendationsRequest, who: Person
) -> tuple[str | None, tuple[str, ...] | None]:
    """Region and subscriptions of the request, else those that the graph knows of the person."""
    region, subscriptions = request.region, request.subscriptions
    if who.is_known and region is None:
        region = snapshot.of_user("region", int(who.users.rows[0]))
        if region is not None and region not in snapshot.availability.regions:
            region = None
    if who.is_known and subscriptions is None and request.region is None:
        subscriptions = snapshot.of_user("subscriptions", int(who.users.rows[0])) or None
    return region_code(snapshot, region), platform_ids(snapshot, subscriptions)


def _scores(snapshot: Snapshot, who: Person, is_bare: bool) -> _Scored:
    """Scores of the model, or of popularity where it has none for this person."""
    facts, version = snapshot.model.facts, snapshot.version
    can_score = who.is_known and (is_bare or who.has_history) or who.has_history and facts.scores_cold_user
    if not can_score:
        said = "nothing liked is known of this person: contents liked by most people"
        return _Scored(snapshot.popularity, "popularity", True, said)
    scores = snapshot.model.score(who.users)[0]
    told = f" and {who.feedback_count} events of feedback" if who.feedback_count else ""
    said = f"{version.ref} ({version.model}) on {who.users.history.nnz} liked contents{told}"
    return _Scored(scores, None, False, said)


def _why(snapshot: Snapshot, who: Person, row: int, rung: str | None) -> Why:
    if rung not in (None, "history"):  # what the person liked gave less than what others do
        liked = int(snapshot.popularity[row])
        return Why(because=[f"{liked:,} people liked it"] if liked else [], connections=[])
    told = explain(snapshot.model, who.users, row, snapshot.paths, _REASONS)
    return Why(
        because=[
            cause.text if cause.share is not None else f"it {cause.text}, which you liked"
            for cause in told.because
        ],
        connections=[connection.text for connection in told.connections],
    )


def _both(allowed: np.ndarray, available: np.ndarray | None) -> np.ndarray:
    return allowed if available is None else allowed & available


def _lifted(whys: list[Why], found: Shortlist, bent: _Bent) -> list[Why]:
    """Reasons, and of what the instant tier lifted, from where to where."""
    lifted = {move.content_row: move for move in bent.moved if move.after and move.after < move.before}
    told_of = []
    for row, why in zip(found.rows.tolist(), whys, strict=True):
        move = lifted.get(row)
        if move is not None:
            said = f"{bent.by} lifted it from place {move.before} to {move.after} by score"
            why = why.model_copy(update={"adapted": said})
        told_of.append(why)
    return told_of


def _contents(
    snapshot: Snapshot,
    found: Shortlist,
    whys: list[Why],
    region: str | None,
    subscriptions: tuple[str, ...],
    at: int,
) -> list[Recommendation]:
    contents = []
    for place, (row, why) in enumerate(zip(found.rows.tolist(), whys, strict=True)):
        known = [] if region is None else snapshot.availability.offers(row, region, at, subscriptions)
        offers = [tell(offer, subscriptions) for offer in known]
        minutes = snapshot.minutes[row]
        contents.append(
            Recommendation(
                rank=place + 1,
                content_id=snapshot.content_ids[row],
                title=snapshot.title(row),
                year=snapshot.years[row],
                kind=str(snapshot.kinds[row]) or None,
                minutes=None if np.isnan(minutes) else int(minutes),
                genres=snapshot.genres_of(row),
                score=float(found.scores[place]),
                offers=offers,
                why=why,
                simulated=any(offer.simulated for offer in offers),
            )
        )
    return contents


def _note(
    snapshot: Snapshot,
    who: Person,
    cold_start: bool,
    region: str | None,
    count: int,
    request: RecommendationsRequest,
) -> str | None:
    said = []
    if cold_start and who.has_history:
        said.append(
            f"{snapshot.version.ref} cannot score somebody it was not trained on, "
            "so feedback only hides here."
        )
    elif cold_start:
        said.append("Nothing liked is known of this person yet: rate or like a few titles.")
    if region is None and not request.filters.include_unavailable:
        said.append("No region was given, so nothing was filtered by availability.")
    if count < request.n:
        said.append(f"Only {count} of {request.n} asked for are left after the filters; `steps` says why.")
    return " ".join(said) or None
