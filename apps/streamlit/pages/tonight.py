"""Tonight: who, where, on which platforms, how long; then what to watch, where, until when and why."""

import uuid
from typing import Any

import streamlit as st

from apps.streamlit.connection import SIMULATED, ask, catalogue, plain, sentence, where

PAGE = 20  # people offered at once
EVENTS = {
    "like": ("Like", ":material/thumb_up:"),
    "dismiss": ("Not for me", ":material/thumb_down:"),
    "watchlist": ("Later", ":material/bookmark:"),
    "watched": ("Seen", ":material/visibility:"),
}


def choose_person() -> str:
    """The id of somebody of the graph, or of somebody new."""
    if st.segmented_control("Who", ["Somebody", "New person"], default="Somebody", key="who") == "New person":
        st.session_state.setdefault("new_person", f"user:new:{uuid.uuid4().hex[:12]}")
        st.caption("Nothing is known of a new person: popular titles come first, until you like some.")
        if st.button("Start anew", icon=":material/refresh:"):
            st.session_state["new_person"] = f"user:new:{uuid.uuid4().hex[:12]}"
        return st.session_state["new_person"]
    query = st.text_input("Part of an id", placeholder="any", key="part")
    page = st.session_state.get("page", 1)
    found = ask(lambda client: client.users(query, n=PAGE, offset=PAGE * (page - 1)))
    pages = max(1, -(-found.found // PAGE))
    if not found.users and page > 1:
        st.session_state["page"] = 1
        st.rerun()
    if not found.users:
        st.warning(f"Nobody's id has {query!r} in it: shorten it.")
        st.stop()
    labels = {user.user_id: label(user) for user in found.users}
    chosen = st.selectbox("Person", list(labels), format_func=labels.__getitem__)
    if pages > 1:
        st.number_input(f"Page of {pages:,} ({found.found:,} people)", 1, pages, key="page")
    return chosen


def label(user: Any) -> str:
    """How a person is offered: an id means nothing, what they like does."""
    likes, end = ", ".join(user.favourites[:2]), user.user_id.rpartition(":")[2][-6:]
    return f"likes {likes} · {user.liked} liked ({end})" if likes else f"({end})"


def tell_changes(key: tuple[Any, ...], request: dict[str, Any], reply: Any) -> None:
    """What the last feedback changed in this list, and which step of the loop changed it."""
    titles = {content.content_id: content.title for content in reply.contents}
    before = st.session_state.get("before")
    st.session_state["before"] = (key, titles)
    told, content_id = st.session_state.pop("told", (None, None))
    if told is None or before is None or before[0] != key:
        return
    between, tier = titles, tier_of(reply)
    if tier is not None and not tier.is_left_out:
        alone = {**request, "at": reply.at, "adaptation": {"instant_tier": False}}
        between = {one.content_id: one.title for one in ask(lambda client: client.recommend(alone)).contents}
    say_changes(told, before[1], titles)
    show_changes(before[1], between, titles, content_id)


def tier_of(reply: Any) -> Any:
    """What the instant tier did to a list; None where the service does not tell."""
    return next((step for step in reply.steps if step.name == "instant tier"), None)


def tell_tier(reply: Any) -> None:
    """Whether the person's own adapter had a part in a list, and why not."""
    tier = tier_of(reply)
    if tier is not None:
        badge = ":gray-badge[instant tier off]" if tier.is_left_out else ":violet-badge[instant tier on]"
        st.caption(f"{badge} {plain(tier.said.removeprefix('left out: '))}")


def say_changes(told: str, before: dict[str, str], titles: dict[str, str]) -> None:
    """In a sentence: what is gone, what is new, how many changed places; from id -> title, best first."""
    gone = [plain(title) for id, title in before.items() if id not in titles]
    new = [plain(title) for id, title in titles.items() if id not in before]
    kept = [id for id in titles if id in before]
    order = [id for id in before if id in titles]
    moved = sum(one != other for one, other in zip(kept, order, strict=True))
    said = [f"**{told}** is recorded."]
    said += [f"Gone: {', '.join(gone)}."] if gone else []
    said += [f"New: {', '.join(new)}."] if new else []
    said += [f"{moved} others changed places."] if moved else []
    st.success(" ".join(said), icon=":material/check:")


def show_changes(
    before: dict[str, str], between: dict[str, str], after: dict[str, str], told_id: str
) -> None:
    """Both lists side by side, and at each title which step of the loop moved it, and how far.

    Args:
        before: id -> title, best first, before the feedback.
        between: what live history alone makes of it.
        after: what live history and the instant tier make of it, the list that is shown.
        told_id: what the feedback was about; where it is gone, those below move up without a step's doing.
    """
    places = []
    for titles in (before, between, after):
        rest = [id for id in titles if id != told_id or told_id in after]
        places.append({id: place for place, id in enumerate(rest, 1)})
    with st.container(border=True):
        left, right = st.columns(2)
        left.markdown("**Before**")
        for place, (id, title) in enumerate(before.items(), 1):
            left.markdown(f"{place}. " + (plain(title) if id in after else f"~~{plain(title)}~~"))
        right.markdown("**Now**")
        for id, title in after.items():
            moves = (
                arrow("live history", "blue", places[0].get(id), places[1].get(id)),
                arrow("instant tier", "violet", places[1].get(id), places[2].get(id)),
            )
            right.markdown(f"{places[2][id]}. {plain(title)} {' '.join(move for move in moves if move)}")
        st.caption(
            "Live history: the model is told what you just said. Instant tier: your own adapter learned from "
            "it. An arrow says how many places."
        )


def arrow(step: str, colour: str, before: int | None, after: int | None) -> str:
    """A badge that says how a step moved a title; nothing where it did not."""
    if before == after:
        return ""
    if before is None:
        return f":{colour}-badge[{step} · new]"
    if after is None:
        return f":{colour}-badge[{step} · out]"
    sign = "▲" if after < before else "▼"
    return f":{colour}-badge[{step} {sign}{abs(before - after)}]"


def record(user_id: str, content: Any, event: str) -> None:
    """Sends what was clicked; it is on disk before the page goes on."""
    value = 1.0 if event == "watched" else None
    key = uuid.uuid4().hex
    ask(
        lambda client: client.feedback(
            {
                "user_id": user_id,
                "content_id": content.content_id,
                "event": event,
                "value": value,
                "idempotency_key": key,
            }
        )
    )
    st.session_state["told"] = f"{EVENTS[event][0]}: {plain(content.title)}", content.content_id


def card(user_id: str, content: Any) -> None:
    """One recommendation."""
    with st.container(border=True):
        year = f" ({content.year})" if content.year else ""
        st.markdown(f"#### {content.rank}. {plain(content.title)}{year}")
        about = [plain(genre) for genre in content.genres] + (
            [f"{content.minutes} min"] if content.minutes else []
        )
        if about:
            st.caption(" · ".join(about))
        for offer in content.offers[:3]:
            st.markdown(where(offer))
        if not content.offers:
            st.markdown("No offer is known here.")
        if content.why.because:
            st.markdown(f"Because {sentence(joined(content.why.because))}")
        if content.why.adapted:
            st.caption(f":violet-badge[instant tier] {plain(content.why.adapted)}")
        if content.why.connections:
            st.caption(f"Connection: {sentence(content.why.connections[0])}")
        with st.container(horizontal=True):
            for event, (name, icon) in EVENTS.items():
                st.button(
                    name,
                    icon=icon,
                    key=f"{event}-{content.content_id}",
                    on_click=record,
                    args=(user_id, content, event),
                )
            if st.button("Details", icon=":material/info:", key=f"details-{content.content_id}"):
                st.session_state["content"] = content.content_id
                st.switch_page("pages/title.py")


def joined(reasons: list[str]) -> str:
    """Reasons as one sentence; what they begin with alike is said once."""
    first, *rest = reasons
    return " and ".join([first, *(reason.removeprefix("you liked ") for reason in rest)])


st.title("Tonight")
st.caption("What to watch, where, until when and why.")
known = catalogue()
with st.expander("Who, where, how long", expanded=True):
    user_id = choose_person()
    left, right = st.columns(2)
    usual = known.regions.index("US") if "US" in known.regions else 0
    region = left.selectbox("Country", known.regions, index=usual if known.regions else None)
    minutes = right.number_input("Minutes at hand (0: any)", 0, 600, 0, step=15)
    names = {platform.id: platform.name for platform in known.platforms}
    platforms = left.multiselect(
        "Platforms", list(names), format_func=names.__getitem__, placeholder="every platform"
    )
    n = right.slider("Titles", 1, 20, 5)

request: dict[str, Any] = {"user_id": user_id, "n": n, "region": region}
if platforms:
    request["subscriptions"] = platforms
if minutes:
    request["context"] = {"minutes": minutes}
reply = ask(lambda client: client.recommend(request))
tell_changes((user_id, region, tuple(platforms), minutes, n), request, reply)
if reply.note:
    st.info(plain(reply.note))
if reply.simulated:
    made_up = (
        "Everything here is made up" if "RATED" in known.simulated else "Where and until when is made up"
    )
    st.markdown(f"{SIMULATED} {made_up} for this data set.")
tell_tier(reply)
for content in reply.contents:
    card(user_id, content)
with st.expander(f"How this list came about ({reply.timings_ms['total']:.0f} ms)"):
    st.caption(f"{plain(reply.model_version)} on graph {plain(reply.graph)}, arrays {reply.graph_hash[:8]}")
    for step in reply.steps:
        removed = f": {step.removed:,} taken out" if step.removed is not None else ""
        st.markdown(f"**{plain(step.name)}** — {plain(step.said)}{removed}")
        for move in step.moved[:5]:
            after = "taken out" if move.after is None else f"to {move.after}"
            st.caption(f"{plain(move.title)}: from {move.before} {after}")
