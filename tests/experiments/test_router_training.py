"""Training a router: parts never meet, measures by hand, the whole way on a small world."""

from dataclasses import replace

import numpy as np
import pytest

from configs.loading import load
from configs.registry import SettingError, fill
from experiments.router import (
    GRNN_ROW,
    LINEAR_ROW,
    WORDS_ROW,
    LeakError,
    RouterConfig,
    check_leaks,
    draw_parts,
    kin_of_held,
    train_router,
)
from experiments.router_fit import Read, fit_linear, kept_features, matrix_of
from experiments.routing import (
    Scored,
    border_of,
    calibration_error,
    covered,
    f1,
    interval,
    redraw,
    temperature_of,
)
from experiments.routing_baselines import key_words
from kg.worlds import WorldConfig, world
from models.queries import (
    HELD,
    INTENTS,
    ORDERS,
    POOL,
    Queries,
    Query,
    Template,
    are_kin,
    cut,
    families,
    joined,
    misspell,
    words_in,
)
from models.reading import LinearReader
from models.router import softmax


@pytest.fixture(scope="module")
def graph(toy):
    return toy.arrays(world(WorldConfig(users=20, contents=120, groups=4)).records, "world")


@pytest.fixture(scope="module")
def settings():
    return fill(RouterConfig, load("router/router.yaml", ["each=2", "held_each=2"]))


@pytest.fixture(scope="module")
def parts(graph, settings):
    return draw_parts(Queries(graph, 0), settings)


def test_every_class_and_language_stands_in_every_part(graph):
    made = Queries(graph, 0)
    languages = {"en", "de", "es", "fr", "it", "nl", "pt"}
    for part in ("train", "choose"):
        there = {(one.intent, one.language) for one in made.templates if one.part == part}
        assert there == {(intent, language) for intent in INTENTS for language in languages}
    for part in ("calibrate", "test", ORDERS):
        assert {one.intent for one in made.templates if one.part == part} == set(INTENTS)
    assert len({(one.language, one.text) for one in made.templates}) == len(made.templates) > 3_800


def test_kin_fall_into_one_part(graph):
    made = [one for one in Queries(graph, 3).templates if one.part in ("train", "choose")]
    for intent in INTENTS:
        own = [(words_in(one.text), one.part) for one in made if (one.intent, one.language) == (intent, "en")]
        for at, (words, part) in enumerate(own):
            assert all(part == other for near, other in own[:at] if are_kin(words, near))


def test_families_are_kin_and_kin_of_kin():
    # 5 of 6, then 5 of 6 words shared; the first and third share 4 of 7
    three = ["a b c d e", "a b c d e f", "b c d e f"]
    assert families([*three, "x y"]) == [sorted(three), ["x y"]]


def test_no_sentence_of_the_pool_is_kin_of_one_held_out(graph):
    made = Queries(graph, 0)
    held = [one for one in made.templates if one.part in ("calibrate", "test")]
    pool = [one for one in made.templates if one.part in ("train", "choose")]
    assert not {one.text for one in held} & {one.text for one in pool}
    planted = joined([load(name) for name in POOL])
    planted[held[0].intent][held[0].language].append(f"{held[0].text} so")  # planted: one word more
    again = cut(planted, load(HELD), 0)
    assert f"{held[0].text} so" not in {one.text for one in again}
    assert {one.text for one in pool} <= {one.text for one in again}


def test_a_sentence_that_choices_put_together_is_kin(graph):
    made = Queries(graph, 0)
    held = Template("trending", "en", "top films this week", "test")
    wide = Template(
        "trending", "en", "[top|best|old|new|long|short] [films|people|news] [this|last] week", "train"
    )
    other = replace(wide, intent="comparison")
    query = Query("", "trending", held, {}, held.text)
    asked = [
        Query("", one.intent, one, {}, form)
        for one, form in ((wide, "this week top films"), (wide, "old news last week"), (other, held.text))
    ]
    assert not are_kin(words_in(wide.text), words_in(held.text))  # so families do not show it
    assert kin_of_held(asked, [query]).tolist() == [True, False, False]
    forms = {query.form for query in made.draw("train", 1)}
    assert not any(set("[]|<>") & set(form) for form in forms) and any("{title}" in form for form in forms)


def test_the_cut_does_not_move_with_the_order_of_the_lines(graph):
    made = Queries(graph, 0).templates
    pool, held = ({intent: {} for intent in INTENTS} for _ in range(2))
    for one in reversed(made):
        if one.part != ORDERS:
            source = pool if one.part in ("train", "choose") else held
            source[one.intent].setdefault(one.language, []).append(one.text)
    again = cut(pool, held, 0)
    assert {(one.text, one.part) for one in again} == {
        (one.text, one.part) for one in made if one.part != ORDERS
    }


def test_parts_share_no_template_and_no_title(parts):
    check_leaks(parts)
    assert set(parts.held) == {
        f"{part}{twin}" for part in ("choose", "calibrate", "test", "orders") for twin in ("", "-misspelt")
    }


@pytest.mark.parametrize("what", ["template", "template's family", "sentence", "title"])
def test_a_planted_leak_is_caught(parts, what):
    held = parts.held["test"][0]
    seen = next(query for query in parts.train if "title" in query.slots)
    planted = {
        "template": replace(seen, template=replace(held.template, language="xx"), text="x", slots={}),
        "template's family": replace(
            seen,
            template=replace(held.template, text=f"{held.template.text} {held.template.text}"),
            text="x",
            slots={},
        ),
        "sentence": replace(seen, text=held.text.upper(), slots={}),
        "title": replace(seen, text="y", slots={"title": _title_of(parts.held["test"]).upper()}),
    }[what]
    with pytest.raises(LeakError, match=f"must not share a {what}"):
        check_leaks(replace(parts, train=[*parts.train, planted]))


def test_a_planted_sentence_of_choices_is_caught(parts):
    held = parts.held["test"][0]
    seen = next(query for query in parts.train if query.intent == held.intent)
    same = replace(seen.template, language=held.template.language)
    planted = replace(seen, template=same, form=f"{held.form} so", text="x", slots={})
    with pytest.raises(LeakError, match="sentence's kin"):
        check_leaks(replace(parts, train=[*parts.train, planted]))


def _title_of(queries):
    return next(query.slots["title"] for query in queries if "title" in query.slots)


def test_a_gap_is_filled_and_two_titles_differ(graph):
    for query in Queries(graph, 1).draw("train", 2):
        assert not set("{}[]|") & set(query.text), query.text
        assert len(set(query.slots.values())) == len(query.slots)


def test_a_seed_draws_the_same_and_another_another(graph):
    first, again, other = (
        [query.text for query in Queries(graph, seed).draw("test", 2)] for seed in (4, 4, 5)
    )
    assert first == again != other


def test_sentences_that_stand_twice_or_a_class_missing_are_refused():
    both = {intent: {"en": ["a", f"b {intent}"]} for intent in INTENTS}
    with pytest.raises(SettingError, match="stands in one class and once"):
        cut(both, {intent: {"en": [f"c {intent}"]} for intent in INTENTS}, 0)
    with pytest.raises(SettingError, match="must have the classes"):
        cut({"trending": {}}, both, 0)


def test_a_slip_changes_one_word_at_least():
    rng = np.random.default_rng(2)
    told = [misspell("where is heat streaming", rng) for _ in range(100)]
    assert (
        sum(text != "where is heat streaming" for text in told) > 90
    )  # a doubled letter may swap with itself
    assert misspell("a b c", rng) == "a b c"


def test_f1_by_hand():
    # class 0: 2 right of 3 there and 2 told: 2*2/(3+2); class 1: 1 right of 1 there, 2 told: 2/3
    assert f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))[:2] == pytest.approx([0.8, 2 / 3])


def test_calibration_error_by_hand():
    # two queries at .9, one right: |.5 - .9|; two at .6, both right: |1 - .6|
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration_error(chances, np.array([0, 1, 0, 0])) == pytest.approx(0.4)


def test_the_border_is_the_chance_that_enough_right_classes_reach():
    chances = np.column_stack((np.linspace(0.01, 0.99, 99), 1 - np.linspace(0.01, 0.99, 99)))
    intents = np.zeros(99, int)
    assert border_of(chances, intents, 0.9) == pytest.approx(0.10)  # the 90th largest of 99
    assert border_of(chances[:3], intents[:3], 0.9) == 0.0  # too few to promise anything
    assert covered(chances, intents, border_of(chances, intents, 0.9)) == pytest.approx(90 / 99)


def test_sets_cover_what_is_promised_on_exchangeable_templates():
    rng = np.random.default_rng(0)
    logits, intents = rng.normal(size=(6000, 6)), rng.integers(6, size=6000)
    logits[np.arange(6000), intents] += 2
    halves = [
        Scored(logits[at : at + 3000], intents[at : at + 3000], np.arange(3000) // 10) for at in (0, 3000)
    ]
    assert redraw(*halves, 0.9, 0)[1] == pytest.approx(0.9, abs=0.01)
    easier = replace(halves[0], logits=halves[0].logits + 4 * np.eye(6)[halves[0].intents])
    border = border_of(
        softmax(easier.logits), easier.intents, 0.9
    )  # planted: calibrated on what was trained on
    assert covered(softmax(halves[1].logits), halves[1].intents, border) < 0.8


def test_an_interval_draws_templates_not_queries():
    rng = np.random.default_rng(3)
    intents = np.repeat(rng.integers(6, size=40), 25)
    logits = np.eye(6)[np.where(np.repeat(rng.random(40) < 0.8, 25), intents, (intents + 1) % 6)]

    def share(part):
        return float((part.logits.argmax(1) == part.intents).mean())

    low, high = interval(Scored(logits, intents, np.repeat(np.arange(40), 25)), share, 0)
    near = interval(Scored(logits, intents, np.arange(1000)), share, 0)  # planted: as if all were strangers
    assert low < share(Scored(logits, intents, intents)) < high
    assert high - low > 3 * (near[1] - near[0])


def test_the_temperature_undoes_a_scale():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 6))
    intents = np.array([rng.choice(6, p=row) for row in softmax(logits)])
    assert temperature_of(logits * 3, intents) == pytest.approx(3, rel=0.15)


def test_key_words_fall_back():
    assert INTENTS[int(key_words("who directed heat").argmax())] == "metadata_lookup"
    assert key_words("xyz").argmax() == 0


def test_the_whole_way_on_a_small_world(graph, tmp_path):
    told = []
    config = load("router/router.yaml", ["each=1", "held_each=1", "fit.epochs=1"])
    result = train_router(config, graph, told.append)
    assert result.router.save(tmp_path / "router", result.summary()) <= 800_000
    rows = {row.name: row for row in result.rows}
    served = rows[result.ahead]
    assert served.macro_f1_choose == max(row.macro_f1_choose for row in result.rows if row.name != WORDS_ROW)
    assert served.macro_f1_choose > rows[WORDS_ROW].macro_f1_choose + 0.1
    assert {GRNN_ROW, LINEAR_ROW, WORDS_ROW} < set(rows)
    assert result.router.calibration.border > 0 and told


def test_the_served_regression_ranks_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    words = [
        [word, "xtitle", str(n)] for n in range(20) for word in ("who", "where", "top", "like", "or", "me")
    ]
    intents = np.arange(len(words)) % len(INTENTS)
    weights = fit_linear(Read(words, intents), 10.0)
    features = matrix_of(words, weights["hashes"], weights["idf"] * weights["idf_scale"])
    theirs = (
        LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(features, intents).decision_function(features)
    )
    ours = np.stack([LinearReader(weights).logits(own) for own in words])
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()
    assert (ours.argmax(1) == intents).all()


def test_features_of_most_templates_are_kept():
    said = [[np.array(own, np.uint32)] for own in ([1, 2, 5], [1, 2, 6], [2, 1, 7], [2, 9], [3, 4, 9])]
    assert kept_features(said, np.array([0, 0, 1, 2, 3])).tolist() == [1, 2, 9]  # 5 to 7: fillings of one
    assert kept_features(said, None).tolist() == [1, 2, 9]
    assert kept_features(said, np.zeros(5, int)).tolist() == [1, 2, 3, 4, 5, 6, 7, 9]  # one template is all


@pytest.mark.parametrize(
    "change",
    [{"each": 0}, {"coverage": 1.0}, {"fit": {"model": {"rank": 99}}}, {"fit": {"epoch": 3}}, {"eech": 3}],
)
def test_a_setting_that_does_not_fit_is_refused(change):
    with pytest.raises(SettingError):
        fill(RouterConfig, change)
