"""An offer as the explorer writes it: made up, in doubt, or neither."""

import pytest

from apps.streamlit.connection import SIMULATED, UNVERIFIED, where
from serve.offers import OfferReply


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("unverified", [True, False])
def test_an_offer_carries_its_marks(simulated, unverified):
    offer = OfferReply(
        platform_id="platform:p",
        platform="P",
        region="US",
        offer="rent",
        is_subscribed=False,
        since=None,
        until="end not known",
        start_ts=None,
        end_ts=None,
        price=3.0,
        currency="USD",
        source="blog",
        confidence=1.0,
        simulated=simulated,
        unverified=unverified,
    )
    line = where(offer)
    assert line.startswith("**P** · rent, 3.00 USD · end not known")
    assert (SIMULATED in line, UNVERIFIED in line) == (simulated, unverified)
