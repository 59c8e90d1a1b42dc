"""Models: who answers, what each version was measured at, and what learning from people adds and costs."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.streamlit.connection import SIMULATED, ask, catalogue, plain

METRIC = "ndcg@10"  # shown first, where versions were measured by it; a string of its own would be painted
STEPS = {
    "promote": "promoted",
    "shadow": "tried as shadow",
    "canary": "tried as canary",
    "champion": "promoted by its trial",
    "end": "trial ended",
    "rollback": "rolled back",
    "undone": "never took place",
}


def told(metric: Any) -> str:
    """A metric of a version with its interval, where it has one."""
    if not isinstance(metric, dict):
        return "–" if metric is None else f"{metric:.4f}"
    value, low, high = (metric.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} ({low:.4f} to {high:.4f})"


def day(ts: float) -> str:
    """A moment as a day and a minute."""
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M UTC")


def tell_aliases(reply: Any) -> None:
    """Who is champion, and who is tried out beside it."""
    champion, trial = reply.aliases.get("champion"), reply.trial
    with st.container(horizontal=True):
        st.metric("Champion", champion or "nobody", width="content")
        if trial is not None:
            st.metric(f"Candidate, {trial.stage}", trial.version, width="content")
            shown = "of people compared" if trial.stage == "shadow" else "of people are shown it"
            st.metric("Share", f"{trial.share:.0%}", help=shown, width="content")
    if champion is None:
        st.info("Nothing holds the alias champion of this graph.")
        st.caption("`mg demo` trains and promotes one, `mg run` and `mg promote` any.")
    elif reply.serving != champion:
        st.caption(f"Here answers {plain(reply.serving or 'nobody')}.")
    if trial is None:
        st.caption("No candidate is tried out. `mg promote RUN --canary SHARE` begins a trial.")
    elif not trial.is_loaded:
        st.warning(f"The candidate is not loaded, the champion answers for it: {plain(trial.why_not or '')}")


def tell_versions(reply: Any) -> None:
    """All versions with one metric, the aliases they hold, and what happened to those."""
    st.subheader("Versions")
    if not reply.versions:
        st.info(f"No version of {plain(reply.graph)} is kept.")
        st.caption("`mg run experiments/ease.yaml` fits and keeps one.")
        return
    names = sorted({name for version in reply.versions for name in version.metrics})
    if names:
        first = names.index(METRIC) if METRIC in names else 0
        metric = st.selectbox("Metric", names, index=first, key="metric")
    rows = [
        {
            "version": version.ref,
            "model": version.model,
            "aliases": ", ".join(version.aliases),
            "answers": "yes" if version.is_serving else "",
            **({metric: told(version.metrics.get(metric))} if names else {}),
            "made": (version.created or "")[:10],
            "data's licence": version.licence or "",
        }
        for version in sorted(reply.versions, key=lambda one: (not one.aliases, one.ref))
    ]
    st.dataframe(rows, hide_index=True, width="stretch")
    st.caption("On test, with the 95% interval over people; versions of other splits are not to be compared.")
    if reply.history:
        with st.expander(f"What happened to the aliases ({len(reply.history)})"):
            for move in reversed(reply.history[-50:]):
                whom = move.candidate or move.version
                st.markdown(
                    f"**{day(move.at_ts)}** — {plain(whom)} {STEPS.get(move.step, plain(move.step))} "
                    f"({plain(move.alias)}): {plain(move.reason)}"
                )


def tell_adapters(graph: str) -> None:
    """What was learned of each person, in numbers."""
    st.subheader("Adapters of people")
    state = getattr(ask(lambda client: client.ready()), "instant_tier", None)
    if state:
        how, _, why = state.partition(": ")
        badge = ":violet-badge[instant tier on]" if how == "on" else ":gray-badge[instant tier off]"
        st.markdown(f"{badge} {plain(why)}")
    banks = report.adapter_banks(graph)
    if not any(bank.users for bank in banks):
        st.info("No adapter is kept here: nobody gave feedback that the instant tier learned from.")
        st.caption("What somebody does on *Tonight* moves their own; `mg adapters stats` tells the same.")
        return
    for bank in banks:
        with st.container(horizontal=True):
            st.metric("People", f"{bank.users:,}", width="content")
            st.metric("Bytes each", f"{bank.user_bytes:,}", width="content")
            st.metric("MiB on disk", f"{bank.size_bytes / 2**20:.1f}", width="content")
            least = "" if bank.is_whole else "≥ "
            learned = "of feedback, and likes that training knew"
            st.metric("Events learned", f"{least}{bank.events:,}", help=learned, width="content")
        when = f" The latest is of {day(bank.last_ts)}." if bank.last_ts else ""
        base = plain(bank.base[:12] or "not named")
        st.caption(
            f"Rank {bank.rank}, width {bank.width}, on head {base}; taken from the log up to event "
            f"{bank.applied:,}.{when} `mg adapters forget USER` erases one person's."
        )


def tell_report(kind: str, title: str, nothing: str, command: str, hidden: tuple[str, ...] = ()) -> None:
    """What a command measured and kept: sentences, figure, tables."""
    st.subheader(title)
    found = report.kept_reports(kind, graph)
    if not found:
        st.info(nothing)
        st.caption(command)
        return
    one = found[0]
    if len(found) > 1:
        labels = [f"{one.title}, {one.made[:10]}" for one in found]
        place = st.selectbox("Report", range(len(found)), format_func=labels.__getitem__, key=f"{kind}_kept")
        one = found[place]
    mark = f" {SIMULATED} {plain(one.simulated)}" if one.simulated else ""
    st.markdown(f"**{plain(one.title)}**{mark}")
    st.markdown("\n".join(f"- {plain(sentence)}" for sentence in one.lead))
    for picture in one.pictures:
        st.image(picture.svg, caption=picture.caption)
    for table in one.tables:
        if table.name not in hidden:
            show_table(table)
    st.caption(f"Made {one.made} by `{one.command}`")


def show_table(table: Any) -> None:
    """A table as people read it, with what it says."""
    names = [column.name for column in table.columns]
    with st.expander(plain(table.title), expanded=table.name in ("replay", "forgetting")):
        rows = [dict(zip(names, row, strict=True)) for row in table.texts()]
        st.dataframe(rows, hide_index=True, width="stretch")
        st.caption(plain(table.caption))


st.title("Models")
st.caption("Who answers, how good each version is, and what learning from people adds and costs.")
reply = ask(lambda client: client.models())
graph = reply.graph
if reply.serving is not None and "RATED" in catalogue().simulated:
    st.markdown(f"{SIMULATED} What people did is made up for this data set, and so is every number below.")
tell_aliases(reply)
tell_versions(reply)
with st.spinner("Opening what was measured …"):
    from experiments import report  # brings seconds of imports: who answers is painted before
try:
    tell_adapters(graph)
    tell_report(
        "replay",
        "What learning adds above live history",
        f"No replay of {plain(graph)} is kept here: nothing tells yet what each tier adds.",
        "`mg replay replay/adaptation.yaml` measures it in minutes, `replay/tiny.yaml` a little of it.",
    )
    tell_report(
        "forgetting",
        "What is forgotten as time passes",
        f"No curve of forgetting on {plain(graph)} is kept here.",
        "`mg forgetting forgetting/movielens.yaml` measures one, `forgetting/tiny.yaml` a little one.",
        hidden=("forgetting_curve",),
    )
except report.ResultError as error:
    st.error(plain(str(error)))
