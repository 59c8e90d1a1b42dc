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


def tell_changes(key: tuple[Any, ...], reply: Any) -> None:
    """What the last feedback changed in this list."""
    titles = {content.content_id: content.title for content in reply.contents}
    before = st.session_state.get("before")
    st.session_state["before"] = (key, titles)
    told = st.session_state.pop("told", None)
    if told is None or before is None or before[0] != key:
        return
    gone = [plain(title) for id, title in before[1].items() if id not in titles]
    new = [plain(title) for id, title in titles.items() if id not in before[1]]
    kept = [id for id in titles if id in before[1]]
    order = [id for id in before[1] if id in titles]
    moved = sum(one != other for one, other in zip(kept, order, strict=True))
    said = [f"**{told}** is recorded."]
    said += [f"Gone: {', '.join(gone)}."] if gone else []
    said += [f"New: {', '.join(new)}."] if new else []
    said += [f"{moved} others changed places."] if moved else []
    st.success(" ".join(said), icon=":material/check:")


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
    st.session_state["told"] = f"{EVENTS[event][0]}: {plain(content.title)}"


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
tell_changes((user_id, region, tuple(platforms), minutes, n), reply)
if reply.note:
    st.info(plain(reply.note))
if reply.simulated:
    made_up = (
        "Everything here is made up" if "RATED" in known.simulated else "Where and until when is made up"
    )
    st.markdown(f"{SIMULATED} {made_up} for this data set.")
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
