"""What is kept of a person instead of what a source tells: a keyed hash for the id, a band for the age."""

import hashlib
import os

PUBLIC_KEY = "media-gateway public research data"
"""Key for public research sets, whose ids are public anyway; the environment's ``MG_USER_KEY`` goes first."""
_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"))


def user_id(scheme: str, raw_id: str) -> str:
    """The node id of a person: ``user:<scheme>:<keyed hash of the raw id>``.

    The key is ``MG_USER_KEY``; without it the fixed :data:`PUBLIC_KEY`, so that everybody gets the same ids
    of a public set. With data of your own set a key, or anybody who knows a raw id finds its node.

    Source: BLAKE2b in keyed mode, RFC 7693.
    """
    key = hashlib.blake2b(os.environ.get("MG_USER_KEY", PUBLIC_KEY).encode()).digest()
    return (
        f"user:{scheme}:{hashlib.blake2b(f'{scheme}:{raw_id}'.encode(), key=key, digest_size=8).hexdigest()}"
    )


def age_band(age: int) -> str:
    """A band instead of an age.

    Example:
        >>> age_band(24), age_band(25), age_band(80)
        ('18-24', '25-34', '55 and over')
    """
    return next((band for upper, band in _BANDS if age < upper), "55 and over")
