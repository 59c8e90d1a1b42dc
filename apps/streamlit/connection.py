"""How pages reach the endpoints, and how they show what came back."""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

SIMULATED = ":orange-badge[simulated]"
UNVERIFIED = ":gray-badge[unverified]"
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>()#+-.!|~$:"})
_IN_SENTENCE = str.maketrans({sign: f"\\{sign}" for sign in "\\`[]<>#|~$:"})
Answer = TypeVar("Answer")


@st.cache_resource(show_spinner="Opening the graph and the model …")
def client() -> Any:
    """The one client of this process: ``MG_URL`` over HTTP, else ``MG_GRAPH`` in process."""
    from serve.client import connect  # brings seconds of imports: the page is painted before

    return connect()


def ask(question: Callable[[Any], Answer]) -> Answer:
    """An answer of the client; where there is none the page says why and ends."""
    try:
        return question(client())
    except ConnectionError as error:
        st.error(plain(str(error)))
    except Exception as error:
        from serve.client import Problem

        if not isinstance(error, Problem):
            raise
        st.error(plain(str(error)))
        if error.status == 503:
            st.caption("This page asks again when you reload it.")
    st.stop()


@st.cache_data(ttl=30, show_spinner=False)
def catalogue() -> Any:
    """Countries, platforms, genres; read again after half a minute."""
    return ask(lambda client: client.catalogue())


def plain(text: str) -> str:
    """Text of a source, with nothing in it that Markdown would read."""
    return text.translate(_SPECIAL)


def sentence(text: str) -> str:
    """A reason as endpoints write it: titles between asterisks stay in italics."""
    return text.translate(_IN_SENTENCE)


def where(offer: Any) -> str:
    """One offer as a line of Markdown: on what, how, what it costs, until when, made up, in doubt."""
    price = f", {offer.price:.2f} {offer.currency or ''}" if offer.price else ""
    mine = " :green-badge[yours]" if offer.is_subscribed else ""
    until = offer.until if offer.end_ts is None else f"until {offer.until}"
    marks = (f" {SIMULATED}" if offer.simulated else "") + (f" {UNVERIFIED}" if offer.unverified else "")
    return f"**{plain(offer.platform)}** · {plain(offer.offer)}{price} · {until}{mine}{marks}"


def country(code: str) -> str:
    """How a country is shown; ZZ stands for one that the source does not tell."""
    return "country not told" if code == "ZZ" else code
