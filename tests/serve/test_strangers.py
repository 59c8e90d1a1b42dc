"""Strangers are answered by the ladder where its weights were learned, by the model where not."""

import pytest

from models.ladder_weights import RUNGS, Blend, LadderWeights
from serve.client import LocalClient
from tests.serve.small_home import GRAPH, USER


def learned(history, events=3):
    """Weights by popularity and as much by history, for up to ``events`` likes."""

    def blend(rungs, at):
        weights = {rung: 0.0 for rung in RUNGS} | {"popularity": 1.0, "history": history}
        return Blend(frozenset({*rungs, "trending", "popularity"}), at, weights, 1)

    return LadderWeights((blend((), 0), blend(("history",), 1), blend(("history",), events)))


def ids(reply):
    return [content.content_id for content in reply.contents]


def answers(home, *liked):
    """Replies to a stranger before and after each like."""
    asked = {"user_id": "ann@example.org", "n": 8, "diversity": 0, "filters": {"include_unavailable": True}}
    with LocalClient(home, GRAPH) as client:
        replies = [client.recommend(asked)]
        for place in liked:
            content = ids(replies[0])[place]
            client.feedback({"user_id": asked["user_id"], "content_id": content, "event": "like"})
            replies.append(client.recommend(asked))
        known = client.recommend({**asked, "user_id": USER})
    return replies, known


def test_without_weights_the_model_answers(home):
    replies, _ = answers(home, 0)
    assert replies[0].cold_start and not replies[1].cold_start
    assert "ease/1" in replies[1].steps[0].said


def test_a_ladder_answers_strangers_and_nobody_else(home):
    plain, known = answers(home)
    learned(0.0).save(home.ladder(GRAPH, "ease/1"))
    replies, known_after = answers(home, 0)
    assert replies[0].cold_start and ids(replies[0]) == ids(plain[0])
    # likes weigh nothing: what is most popular stays, without what was liked
    assert not replies[1].cold_start and ids(replies[1])[:7] == ids(replies[0])[1:]
    assert replies[1].steps[0].said == "a stranger with 1 liked contents: what most people like 100%"
    assert "people liked it" in replies[1].contents[0].why.because[0]
    assert ids(known_after) == ids(known) and "ease/1" in known_after.steps[0].said


def test_what_gave_most_is_the_reason(home):
    learned(50.0).save(home.ladder(GRAPH, "ease/1"))
    replies, _ = answers(home, 0)
    assert "what was liked" in replies[1].steps[0].said
    assert replies[1].contents[0].why.because[0].startswith("you liked")


def test_beyond_what_was_learned_the_model_answers(home):
    learned(0.0, events=2).save(home.ladder(GRAPH, "ease/1"))
    replies, _ = answers(home, 0, 1, 2)
    assert ["stranger" in reply.steps[0].said for reply in replies] == [True, True, True, False]


def test_a_bare_ranking_never_asks_the_ladder(home):
    with LocalClient(home, GRAPH) as client:
        before = client.bare_ranking("ease/1", USER, 10)
    learned(0.0).save(home.ladder(GRAPH, "ease/1"))
    with LocalClient(home, GRAPH) as client:
        assert client.bare_ranking("ease/1", USER, 10) == before


def test_broken_weights_are_named(home):
    path = home.ladder(GRAPH, "ease/1")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with LocalClient(home, GRAPH) as client:
        with pytest.raises(Exception, match="mg ladder"):
            client.recommend({"user_id": "ann@example.org"})
        assert client.recommend({"user_id": USER}).contents
