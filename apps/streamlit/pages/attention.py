"""Attention lab: what each mechanism is worth on this graph in quality, time and memory, as measured."""

import os

import streamlit as st

from apps.streamlit.connection import SIMULATED, plain

st.title("Attention lab")
with st.spinner("Opening the table …"):
    from experiments import report  # brings seconds of imports: the title is painted before
graph = os.environ.get("MG_GRAPH") or "movielens-100k"
try:
    table = report.mechanisms(graph)
except report.ResultError as error:
    st.info(f"No table of mechanisms is kept for {plain(graph)} here.")
    st.caption("`mg bench attention --quick` measures one in minutes, `mg bench attention` the whole.")
    st.caption(plain(str(error)))
    st.stop()

st.markdown(
    f"**{plain(table.title)}**" + (f" {SIMULATED} {plain(table.simulated)}" if table.simulated else "")
)
st.caption(
    f"{len(table.rows)} mechanisms · made {table.made} by `{table.command}` · code {table.code_revision}"
)
parts = list(report.mechanism_texts(table))
names = [*table.tasks, *(["cost"] if len(parts) > len(table.tasks) else [])]
for tab, name, (_, columns, rows) in zip(st.tabs(names), names, parts, strict=True):
    with tab:
        figure = report.cost_figure(table) if name == "cost" else report.quality_figure(table, name)
        st.pyplot(figure)
        st.dataframe([dict(zip(columns, row, strict=True)) for row in rows], hide_index=True, width="stretch")
