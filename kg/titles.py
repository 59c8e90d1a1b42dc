"""Takes a title apart as catalogues write it: article moved to the end, other titles in brackets, year."""

import re
from dataclasses import dataclass

_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
_BRACKET = re.compile(r"\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*$")
_AKA = re.compile(r"^(?:a\.?k\.?a\.?)\s+", re.IGNORECASE)
_ARTICLES = (
    r"The|A|An|La|Le|Les|L'|El|Los|Las|Il|Lo|I|Gli|Der|Die|Das|Ein|Eine"
    r"|Un|Una|Une|O|Os|As|Den|Det|De|Het|En|Ett"
)
_MOVED = re.compile(rf"^(.+?),\s+({_ARTICLES})$")


@dataclass(frozen=True)
class Title:
    """A title in reading order."""

    title: str
    alternates: tuple[str, ...]
    """Other titles that stood in brackets."""
    year: int | None


def take_apart(text: str) -> Title:
    """Reads ``Title, The (Other, Le) (1995)``; a title without year or brackets is fine too.

    Example:
        >>> take_apart("City of Lost Children, The (Cité des enfants perdus, La) (1995)")
        Title(title='The City of Lost Children', alternates=('La Cité des enfants perdus',), year=1995)
        >>> take_apart("Seven (a.k.a. Se7en) (1995)").alternates
        ('Se7en',)
    """
    text = text.strip()
    year = None
    if (found := _YEAR.search(text)) and found.start() > 0:
        year, text = int(found.group(1)), text[: found.start()]
    alternates: list[str] = []
    while (found := _BRACKET.search(text)) and found.start() > 0:
        alternates.insert(0, move_article(_AKA.sub("", found.group(1).strip())))
        text = text[: found.start()]
    return Title(move_article(text.strip()), tuple(other for other in alternates if other), year)


def move_article(title: str) -> str:
    """A leading article back in front.

    Example:
        >>> move_article("Matrix, The"), move_article("Avventura, L'"), move_article("I, Robot")
        ('The Matrix', "L'Avventura", 'I, Robot')
    """
    found = _MOVED.match(title)
    if not found:
        return title
    rest, article = found.groups()
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"
