"""Title: what is known of one content, who made it, where and when it can be watched, and who says so."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.streamlit.connection import SIMULATED, ask, country, plain, where

PAGE = 20
YEAR_S = 365 * 86_400
ROLES = {
    "directed": "Director",
    "wrote": "Writer",
    "acted_in": "Cast",
    "produced": "Producer",
    "shot": "Camera",
}


def choose_content() -> str:
    """The id of a content, by its title."""
    wanted = st.text_input("Title", placeholder="words of a title", key="wanted")
    given = st.session_state.get("content")
    if given and not wanted:
        return given
    page = st.session_state.get("title_page", 1)
    found = ask(lambda client: client.contents(wanted, n=PAGE, offset=PAGE * (page - 1)))
    if not found.contents and page > 1:
        st.session_state["title_page"] = 1
        st.rerun()
    if not found.contents:
        st.warning(f"No title has the words {plain(wanted)}: try fewer, or part of one.")
        st.stop()
    labels = {
        hit.content_id: f"{hit.title} ({hit.year})" if hit.year else hit.title for hit in found.contents
    }
    chosen = st.selectbox(f"{found.found:,} found", list(labels), format_func=labels.__getitem__)
    pages = -(-found.found // PAGE)
    if pages > 1:
        st.number_input(f"Page of {pages:,}", 1, pages, key="title_page")
    return chosen


def tell_people(people: list[Any]) -> None:
    """Names where they are known; people the source knows by number alone are counted."""
    for credit in people:
        names = [plain(name) for name in credit.names]
        if credit.nameless:
            names.append(
                f"{credit.nameless} {'more ' if names else ''}whose name"
                f"{' is' if credit.nameless == 1 else 's are'} not told"
            )
        st.markdown(f"**{ROLES.get(credit.role, credit.role)}** — {', '.join(names)}")
    if not people:
        st.caption("No people are known.")


def timeline(offers: list[Any]) -> None:
    """Windows as bars; one without an end runs a year on and says so."""
    import altair as alt

    now = datetime.now(UTC).timestamp()
    rows = [
        {
            "platform": f"{offer.platform} ({country(offer.region)})",
            "from": moment(offer.start_ts if offer.start_ts is not None else now - YEAR_S),
            "to": moment(offer.end_ts if offer.end_ts is not None else now + YEAR_S),
            "end": "end not known" if offer.end_ts is None else "end known",
            "until": offer.until,
            "offer": offer.offer,
            "data": "simulated" if offer.simulated else "as told",
        }
        for offer in offers
    ]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=14, cornerRadius=3)
        .encode(
            x=alt.X("from:T", title=None),
            x2="to:T",
            y=alt.Y("platform:N", title=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color("offer:N", title="offer", legend=alt.Legend(orient="bottom")),
            opacity=alt.Opacity(
                "end:N",
                title="end",
                legend=alt.Legend(orient="bottom", direction="vertical"),
                scale=alt.Scale(domain=["end known", "end not known"], range=[1, 0.45]),
            ),
            tooltip=["platform:N", "offer:N", "from:T", "until:N", "data:N"],
        )
    )
    today = alt.Chart(alt.Data(values=[{"now": moment(now)}])).mark_rule(strokeDash=[4, 4]).encode(x="now:T")
    st.altair_chart(bars + today, width="stretch")


def moment(ts: float) -> str:
    """ISO time that a chart reads."""
    return datetime.fromtimestamp(ts, UTC).isoformat()


def tell_availability(content_id: str) -> None:
    """Where and when, for one country or all."""
    every = ask(lambda client: client.availability(content_id))
    st.subheader("Where and when")
    if not every.offers:
        st.caption("No platform is known to have it.")
        return
    codes = sorted(every.regions, key=lambda code: (code != "US", code))
    code = st.selectbox("Country", codes, format_func=country)
    offers = [offer for offer in every.offers if offer.region == code]
    if any(offer.simulated for offer in offers):
        st.markdown(f"{SIMULATED} These windows are made up for this data set.")
    timeline(offers)
    for offer in offers:
        since = f" · since {offer.since}" if offer.since else ""
        st.markdown(where(offer) + since)
    contested = [one for one in every.contested if one.region == code]
    for one in contested:
        st.markdown(f"{where(one)} :red-badge[contested] {plain(one.reason)}")
    told = f"{len(contested)} shown here" if contested else "none known"
    st.caption(f"{len(every.regions)} countries in all. Conflicts between sources: {told}.")


st.title("Title")
content_id = choose_content()
content = ask(lambda client: client.content(content_id))
badge = f" {SIMULATED}" if content.simulated else ""
st.header(plain(content.title) + (f" ({content.year})" if content.year else ""))
facts = [plain(content.kind)] if content.kind else []
facts += [f"{content.details['runtime_minutes']} min"] if "runtime_minutes" in content.details else []
facts += [plain(genre) for genre in content.genres]
st.markdown(" · ".join(facts) + badge)
with st.container(horizontal=True):
    st.metric("Ratings here", f"{content.ratings.count:,}", width="content")
    if content.ratings.mean is not None:
        st.metric("Mean of 10", f"{content.ratings.mean:.1f}", width="content")
    if "imdb_rating" in content.details:
        st.metric("IMDb of 10", f"{content.details['imdb_rating']:.1f}", width="content")
if content.details.get("synopsis"):
    st.markdown(plain(str(content.details["synopsis"])))
st.subheader("People")
tell_people(content.people)
tell_availability(content.id)
st.subheader("Also known")
for about, names in content.about.items():
    st.markdown(f"**{about.capitalize()}** — {', '.join(plain(name) for name in names[:20])}")
st.markdown(f"**Sources** — {', '.join(plain(source) for source in content.sources) or 'not told'}")
st.caption(f"{plain(content.id)} · " + " · ".join(f"{plain(k)} {plain(v)}" for k, v in content.ids.items()))
