"""GET /v1/contents/{id}: what is known of one content, who made it, and who says so."""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, content_row, endpoints
from serve.offers import OfferReply, region_code, tell
from serve.snapshot import CREDITS, Snapshot

_PEOPLE = 30  # named people of a role that a reply lists
_NOT_DETAILS = {"title", "release_year", "kind", "sources", "ids", "simulated", "trust"}


class ContentRequest(Request):
    """Which content, and for which country offers are told."""

    id: str = Field(min_length=1, max_length=ID_LENGTH, description="content id, such as content:ml100k:50")
    region: str | None = Field(
        None, max_length=20, description="ISO 3166-1 alpha-2; offers of today there are added"
    )
    at: int | None = Field(
        None, ge=0, description="UTC seconds at which offers must hold; now where left out"
    )


class Credit(BaseModel):
    """The people in one part."""

    role: str = Field(description="directed, wrote, acted_in, produced or shot")
    names: list[str] = Field(description="only of people whose name is known")
    nameless: int = Field(description="people the source knows by number alone")


class Ratings(BaseModel):
    """What the people of the graph thought of it, 0 to 10."""

    count: int
    mean: float | None


class ContentReply(Reply):
    """One content."""

    id: str
    title: str
    year: int | None
    kind: str | None
    genres: list[str]
    about: dict[str, list[str]] = Field(
        description="moods, themes, keywords, companies, countries, languages"
    )
    people: list[Credit]
    details: dict[str, Any] = Field(description="all other properties that are known")
    ids: dict[str, str] = Field(description="other identifiers by scheme")
    sources: list[str]
    trust: float | None
    ratings: Ratings
    offers: list[OfferReply]
    simulated: bool = Field(description="True where the content or one of the offers is made up")
    model: str | None = Field(description="version that answers")


@endpoints.register("content")
class Content(Endpoint):
    """Reads the graph of the version that answers, so that title and recommendation never disagree."""

    name = "content"
    method = "GET"
    path = "/v1/contents/{id}"
    summary = "Details, people, sources and offers of one content"
    Request = ContentRequest
    Reply = ContentReply

    def answer(self, request: ContentRequest) -> ContentReply:
        snapshot = self.gateway.snapshot()
        row = content_row(snapshot, request.id)
        node = snapshot.graph.node("Content", row)
        region = region_code(snapshot, request.region)
        at = self.gateway.now() if request.at is None else request.at
        offers = [] if region is None else snapshot.availability.offers(row, region, at)
        return ContentReply(
            id=node.id,
            title=snapshot.title(row),
            year=snapshot.years[row],
            kind=str(snapshot.kinds[row]) or None,
            genres=snapshot.genres_of(row),
            about={
                about: names
                for about in ("mood", "theme", "keyword", "company", "country", "language")
                if (names := snapshot.named(about, row))
            },
            people=_people(snapshot, row),
            details={name: value for name, value in node.properties.items() if name not in _NOT_DETAILS},
            ids=dict(node.ids),
            sources=sorted(node.properties.get("sources", ())),
            trust=node.properties.get("trust"),
            ratings=_ratings(snapshot, row),
            offers=[tell(offer, ()) for offer in offers],
            simulated=bool(node.properties.get("simulated")) or any(offer.simulated for offer in offers),
            model=snapshot.version.ref,
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"id": snapshot.content_ids[0]}


def _people(snapshot: Snapshot, row: int) -> list[Credit]:
    found, names = [], snapshot.names("Person")
    for type in CREDITS:
        facts = snapshot.facts_of(type, row)
        if not len(facts):
            continue
        people = snapshot.members_of(type, "person", row)
        if type == "ACTED_IN":  # by billing where it is known
            billing = snapshot.graph.facts[type]["billing_order"].take(facts).to_pylist()
            people = people[
                np.argsort([10**6 if place is None else place for place in billing], kind="stable")
            ]
        people = list(dict.fromkeys(people.tolist()))
        named = [names[person] for person in people if names[person]]
        found.append(Credit(role=type.lower(), names=named[:_PEOPLE], nameless=len(people) - len(named)))
    return found


def _ratings(snapshot: Snapshot, row: int) -> Ratings:
    facts = snapshot.facts_of("RATED", row)
    if not len(facts):
        return Ratings(count=0, mean=None)
    values = snapshot.ratings[facts]
    known = values[~np.isnan(values)]
    return Ratings(count=len(facts), mean=round(float(known.mean()), 2) if len(known) else None)
