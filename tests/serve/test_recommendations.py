import numpy as np
import pytest
import scipy.sparse as sp

from kg.feedback import hashed_user
from models.interface import Users
from models.ranking import top
from models.store import ModelStore
from serve.client import LocalClient
from serve.problems import Problem
from serve.shortlist import Limits, person, shortlist
from tests.serve.small_home import GRAPH, USER, save, training_of

BARE = {"diversity": 0, "filters": {"include_rated": True, "include_unavailable": True}}


def ids(reply):
    return [content.content_id for content in reply.contents]


def test_bare_ranking_is_the_models_own(client, graph, home):
    training, version = training_of(graph), ModelStore(home.models).load("ease/1")
    model = ModelStore(home.models).restore(version, graph)
    for row in range(graph.size("User")):
        users = Users(np.array([row]), training.positives[[row]])
        allowed = training.rankable.copy()
        allowed[users.history.indices] = False
        rows = top(model.score(users), 20, allowed)[0]
        expected = [graph.id_of("Content", content) for content in rows[rows >= 0]]
        assert client.bare_ranking("ease/1", graph.id_of("User", row), 20) == expected


def test_a_model_that_reads_when_something_was_liked_ranks_as_offline(graph, home):
    training = training_of(graph)
    version = save(home, graph, "hybrid", {"members": {"ease": {"weight": 1, "recency": 2}}})
    model, moved = ModelStore(home.models).restore(version, graph), 0
    with LocalClient(home, GRAPH, version.ref) as client:
        for row in range(graph.size("User")):
            told = Users(np.array([row]), training.positives[[row]], training.times[[row]])
            allowed = training.rankable.copy()
            allowed[told.history.indices] = False
            timed, untimed = (
                [graph.id_of("Content", content) for content in rows[rows >= 0]]
                for users in (told, Users(told.rows, told.history))
                for rows in top(model.score(users), 20, allowed)
            )
            assert client.bare_ranking(version.ref, graph.id_of("User", row), 20) == timed
            moved += timed != untimed
    assert moved  # else times would decide nothing here


def test_what_was_just_liked_is_the_latest_of_a_history(client, graph):
    known = client.recommend({"user_id": USER, "n": 5})
    client.feedback({"user_id": USER, "content_id": known.contents[-1].content_id, "event": "like"})
    snapshot = client.gateway.snapshot()
    users = person(snapshot, USER, client.gateway.feedback.of_user(USER), 8.0, True).users
    np.testing.assert_array_equal(users.times.indices, users.history.indices)
    latest = users.times.indices[users.times.data.argmax()]
    assert graph.id_of("Content", latest) == known.contents[-1].content_id


def test_bare_ranking_ignores_feedback_and_names_the_version(client, graph):
    before = client.bare_ranking("ease/1", USER, 10)
    client.feedback({"user_id": USER, "content_id": before[0], "event": "dismiss"})
    assert client.bare_ranking("ease/1", USER, 10) == before
    with pytest.raises(ValueError, match="popularity/1 must answer, ease/1 did"):
        client.bare_ranking("popularity/1", USER, 10)


def test_a_pinned_version_answers_for_itself(home):
    with LocalClient(home, GRAPH, "popularity/1") as client:
        assert client.recommend({"user_id": USER}).model_version == "popularity/1"


def test_nothing_rated_is_recommended_unless_asked(client, graph):
    users, contents = graph.pairs("RATED")
    rated = {graph.id_of("Content", content) for content in contents[users == graph.row_of(USER)]}
    everything = {"user_id": USER, "n": 50, "filters": {"include_unavailable": True}}
    assert not rated & set(ids(client.recommend(everything)))
    everything["filters"]["include_rated"] = True
    assert rated & set(ids(client.recommend(everything)))


def test_only_what_can_be_watched_with_its_offers(client, graph):
    at = 1_750_000_000
    reply = client.recommend(
        {"user_id": USER, "region": "us", "subscriptions": ["netflix"], "n": 50, "at": at}
    )
    assert reply.region == "US" and reply.subscriptions == ["platform:netflix"]
    assert reply.contents
    for content in reply.contents:
        assert any(
            offer.platform_id == "platform:netflix" and offer.is_subscribed for offer in content.offers
        )
        for offer in content.offers:
            assert offer.region == "US" and offer.start_ts <= at
            assert offer.until == "end not known" if offer.end_ts is None else offer.end_ts > at
            assert offer.simulated
    assert reply.simulated and all(content.simulated for content in reply.contents)
    step = next(step for step in reply.steps if step.name == "availability")
    assert step.removed > 0


def test_offers_before_any_window_are_none_and_said(client):
    reply = client.recommend({"user_id": USER, "region": "US", "at": 0})
    assert reply.contents == [] and "Only 0 of 10" in reply.note


@pytest.mark.parametrize("event", ["like", "rating", "watched"])
def test_what_somebody_likes_changes_the_next_answer(client, event):
    before = client.recommend({"user_id": USER, "n": 10})
    liked = before.contents[-1].content_id
    value = {"rating": 9.0, "watched": 0.9}.get(event)
    client.feedback({"user_id": USER, "content_id": liked, "event": event, "value": value})
    after = client.recommend({"user_id": USER, "n": 10})
    assert liked not in ids(after)
    assert [content.score for content in after.contents] != [content.score for content in before.contents][
        :10
    ]


def test_what_somebody_dismisses_goes_and_moves_no_score(client):
    request = {"user_id": USER, "n": 10, "diversity": 0}
    before = client.recommend(request)
    client.feedback({"user_id": USER, "content_id": ids(before)[0], "event": "dismiss"})
    after = client.recommend(request)
    assert ids(after)[:9] == ids(before)[1:]
    assert after.contents[0].score == before.contents[1].score


def test_a_stranger_gets_what_is_popular_and_then_what_fits(client, graph):
    first = client.recommend({"user_id": "ann@example.org", "n": 5, "diversity": 0})
    assert first.cold_start and first.note
    popularity = training_of(graph).positives.sum(axis=0)
    assert [content.score for content in first.contents] == sorted(popularity.tolist(), reverse=True)[:5]
    assert all("people liked it" in content.why.because[0] for content in first.contents)
    client.feedback({"user_id": "ann@example.org", "content_id": ids(first)[0], "event": "like"})
    second = client.recommend({"user_id": "ann@example.org", "n": 5})
    assert not second.cold_start
    assert second.contents[0].why.because[0].startswith("you liked")
    written = [event.user_id for event in client.gateway.feedback.read()]
    assert written == [hashed_user("ann@example.org")] and "ann" not in written[0]


def test_a_model_that_cannot_score_a_stranger_says_so(home):
    with LocalClient(home, GRAPH, "popularity/1") as client:
        content = ids(client.recommend({"user_id": "somebody"}))[0]
        client.feedback({"user_id": "somebody", "content_id": content, "event": "like"})
        reply = client.recommend({"user_id": "somebody"})
        assert reply.cold_start and "feedback only hides" in reply.note and content not in ids(reply)


def test_filters_take_out_what_they_name(client, graph):
    everything = {"user_id": USER, "n": 50}
    some = client.recommend(everything)
    short = client.recommend({**everything, "filters": {"max_minutes": 100}})
    assert short.contents and all(content.minutes <= 100 for content in short.contents)
    genre = client.recommend({**everything, "filters": {"genres": ["CRIME", "genre:mystery"]}})
    assert genre.contents and all({"Crime", "Mystery"} & set(content.genres) for content in genre.contents)
    series = client.recommend({**everything, "filters": {"kinds": ["series"]}})
    assert all(content.kind == "series" for content in series.contents)
    evening = client.recommend({**everything, "context": {"minutes": 100}})
    assert all(content.minutes is None or content.minutes <= 100 for content in evening.contents)
    without = client.recommend({**everything, "exclude": [ids(some)[0], "content:unknown"]})
    assert ids(some)[0] not in ids(without)
    assert {step.name: step.removed for step in without.steps}["exclude"] == 1


def test_diversity_moves_contents_and_says_which(client):
    plain = client.recommend({"user_id": USER, "n": 10, "diversity": 0})
    mixed = client.recommend({"user_id": USER, "n": 10, "diversity": 0.6})
    assert ids(plain) != ids(mixed)
    scores = [content.score for content in plain.contents]
    assert scores == sorted(scores, reverse=True)
    moved = next(step for step in mixed.steps if step.name == "diversity").moved
    assert moved and all(move.title for move in moved)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 0}, "n: must be greater than or equal to 1, got 0"),
        ({"n": 51}, "n: must be less than or equal to 50"),
        ({"diversity": 1.5}, "diversity"),
        ({"diversity": float("nan")}, "diversity"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 201}, "user_id"),
        ({"region": "XX"}, "region must be one of"),
        ({"subscriptions": ["netflixx"]}, "platform:netflix"),
        ({"subscriptions": []}, "subscriptions"),
        ({"filters": {"genres": ["crimes"]}}, "crime"),
        ({"filters": {"max_minute": 3}}, "filters.max_minute: is no field"),
        ({"filters": {"kinds": ["film"]}}, "filters.kinds"),
        ({"exclude": ["x"] * 1001}, "exclude"),
        ({"at": -1}, "at"),
        ({"m": 3}, "m: is no field of this request, got 3"),
    ],
)
def test_a_wrong_field_is_refused_by_name(client, fields, named):
    with pytest.raises(Problem, match=named) as found:
        client.recommend({"user_id": USER, **fields})
    assert found.value.status == 422


def test_a_region_that_nobody_gave_is_that_of_the_person(client, graph):
    region = graph.node("User", graph.row_of(USER)).properties.get("region")
    assert client.recommend({"user_id": USER}).region == region


def test_shortlist_against_a_naive_list():
    random = np.random.default_rng(0)
    for _ in range(50):
        count, n = int(random.integers(1, 300)), int(random.integers(1, 51))
        scores = random.integers(0, 20, count).astype(np.float32)
        allowed, available = random.random(count) < 0.8, random.random(count) < random.random()
        genres = sp.csr_array(np.ones((count, 1), np.float32))
        found = shortlist(scores, genres, Limits(n, 0.0, allowed, available))
        naive = sorted(np.flatnonzero(allowed & available), key=lambda row: (-scores[row], row))[:n]
        assert found.rows.tolist() == naive
        assert found.scores.tolist() == scores[naive].tolist()
