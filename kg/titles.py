"""Takes a title apart as catalogues write it, and compares titles and names however they are written."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from anyascii import anyascii

_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
_BRACKET = re.compile(r"\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*$")
_AKA = re.compile(r"^(?:a\.?k\.?a\.?)\s+", re.IGNORECASE)
_ARTICLES = (
    r"The|A|An|La|Le|Les|L'|El|Los|Las|Il|Lo|I|Gli|Der|Die|Das|Ein|Eine"
    r"|Un|Una|Une|O|Os|As|Den|Det|De|Het|En|Ett"
)
_MOVED = re.compile(rf"^(.+?),\s+({_ARTICLES})$")
_LEADING = re.compile(r"^(?:the|an?|la|le|les|el|los|las|il|lo|gli|der|die|das|l|una|une)\s+(?=\S)")
_FIRST_ARTICLE = re.compile(r"^(?:the|an?|la|le|les|el|il|der|die|das)\s+(?=\S)")
_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_WORD = re.compile(r"\w+")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
_NUMBERS = {
    word: str(number)
    for number, word in enumerate("one two three four five six seven eight nine ten".split(), 1)
}


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


def normalise_title(title: str) -> str:
    """A title as it is compared: lower case, ASCII, ``&`` as ``and``, without brackets and leading article.

    Example:
        >>> normalise_title("The Fast & the Furious (2001)"), normalise_title("Amélie")
        ('fast and the furious', 'amelie')
    """
    bare = _BRACKETS.sub(" ", title)
    bare = bare if bare.strip() else title  # "(500)" keeps its brackets
    folded = bare.replace("&", " and ").lower()
    if not folded.isascii():
        plain = unicodedata.normalize("NFKD", folded)
        folded = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = " ".join(_WORD.findall(folded.replace("'", "").replace("’", "")))
    return _FIRST_ARTICLE.sub("", words)


@lru_cache(maxsize=1 << 18)
def spelt_alike(text: str) -> str:
    """Words in plain lower-case ASCII: accents dropped, other scripts transliterated, ``&`` as ``and``.

    Example:
        >>> spelt_alike("Amélie & Søren's Дом")
        'amelie and sorens dom'
    """
    plain = anyascii(text[:1000].replace("&", " and ")).lower().replace("'", "").replace("`", "")
    return " ".join(re.findall(r"[a-z0-9]+", plain))


@lru_cache(maxsize=1 << 18)
def comparable(title: str) -> str:
    """A title as two catalogues' titles are compared: no brackets, no leading article, numerals as digits.

    Example:
        >>> comparable("Matrix, The (1999)"), comparable("Rocky III"), comparable("L'Été")
        ('matrix', 'rocky 3', 'ete')
    """
    bare = _BRACKETS.sub(" ", title).strip() or title
    words = spelt_alike(re.sub(r"^[Ll]['’]", "", move_article(bare))).split()
    counted = [
        _ROMAN.get(word, _NUMBERS.get(word, word)) if place else word for place, word in enumerate(words)
    ]
    return _LEADING.sub("", " ".join(counted))


def comparable_name(name: str) -> str:
    """A person's name whichever way round it stands: its words in order, without marks.

    Example:
        >>> comparable_name("Zellweger, Renée") == comparable_name("Renee Zellweger")
        True
    """
    return " ".join(sorted(spelt_alike(name).split()))
