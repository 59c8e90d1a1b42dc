"""The explorer: what people look at. Layout only; every answer comes from the same client as everyone else's.

Run it with `mg explore`, or `streamlit run` on this file with MG_GRAPH and MG_HOME, or MG_URL, set."""

import streamlit as st

st.set_page_config(page_title="Media Gateway", page_icon=":material/live_tv:", layout="centered")
st.set_option("client.toolbarMode", "viewer")
st.navigation(
    [
        st.Page("pages/tonight.py", title="Tonight", icon=":material/nights_stay:", default=True),
        st.Page("pages/title.py", title="Title", icon=":material/movie:"),
        st.Page("pages/models.py", title="Models", icon=":material/model_training:"),
        st.Page("pages/attention.py", title="Attention lab", icon=":material/hub:"),
    ],
    position="top",
).run()
