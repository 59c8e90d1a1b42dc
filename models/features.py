"""What a content is like, as one row of numbers: text and structure, each at a constant width.

Fitted on the contents that training knows, applied to all. What was counted on a day (votes, scores) is never
read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import normalize

from configs.registry import Registry
from kg import schema
from kg.arrays import GraphArrays

PEOPLE = ("ACTED_IN", "DIRECTED", "WROTE", "PRODUCED", "SHOT")
TOLD = ("title", "tagline", "synopsis")  # columns of a content that are words
NAMED = ("BELONGS_TO", "HAS_KEYWORD", *PEOPLE)  # facts whose other member has a name to read
LINKED = ("BELONGS_TO", "MADE_IN", "SPOKEN_IN", *PEOPLE)  # facts whose other member is a category


@dataclass(frozen=True)
class FeaturesConfig:
    """Settings of :func:`content_features`."""

    encoder: str = "tfidf"
    """Registered encoder of the text part."""
    text_width: int = 64
    """Columns of the text part; 0 leaves it out."""
    structure_width: int = 64
    """Columns of the structure part; 0 leaves it out."""
    text_weight: float = 0.4
    """Length of the text part of a row."""
    structure_weight: float = 0.3
    """Length of the structure part of a row."""
    most_terms: int = 30_000
    """Words the text part reads, the most frequent ones."""
    least_contents: int = 2
    """A person or place counts as structure from so many known contents on."""
    seed: int = 0

    @property
    def width(self) -> int:
        """Columns in all."""
        return self.text_width + self.structure_width


Encoder = Callable[[Sequence[str], np.ndarray, FeaturesConfig], np.ndarray]
"""(i) documents, (i,) bool known, settings -> (i, text_width)."""
encoders: Registry[Encoder] = Registry("text encoder")


def content_features(graph: GraphArrays, known: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """One row per content.

    Args:
        graph: what training may see.
        known: (i,) bool, contents that training knows: words, weights and axes are fitted on these alone.
        config: widths and weights.

    Returns:
        (i, width) float32; each part of a row has the length that ``config`` gives it, or is zero where
        nothing is known.

    Raises:
        ValueError: a feature that is no number, by content and part.
    """
    if known.shape != (graph.size("Content"),):
        raise ValueError(
            f"known must be ({graph.size('Content')},), one flag a content, got {known.shape}: "
            "use the graph it was made for"
        )
    parts = [np.zeros((len(known), 0))]
    if config.text_width:
        text = encoders[config.encoder](documents(graph), known, config)
        parts.append(config.text_weight * normalize(_finite(text, "text", graph)))
    if config.structure_width:
        flags = structure(graph, known, config.least_contents)
        weighted = TfidfTransformer().fit(flags[known]).transform(flags) if flags.shape[1] else flags
        reduced = axes(weighted, known, config.structure_width, config.seed)
        parts.append(config.structure_weight * normalize(_finite(reduced, "structure", graph)))
    return np.concatenate(parts, 1).astype(np.float32)


def _finite(part: np.ndarray, name: str, graph: GraphArrays) -> np.ndarray:
    """The same (i, w) part of the features, once each is a number."""
    wrong = np.argwhere(~np.isfinite(part))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"features must be numbers, got {part[row, column]} in {name} feature {column} of "
            f"{graph.id_of('Content', int(row))} ({len(wrong)} in all): look at what the encoder makes of it"
        )
    return part


@encoders.register("tfidf")
def tfidf(texts: Sequence[str], known: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """Latent semantic analysis: words weighted by their rarity, then the directions of most variance.

    Source: Deerwester et al., JASIS 41(6), 1990; SVD by Halko, Martinsson, Tropp, SIAM Review 53(2), 2011.
    """
    vectorizer = TfidfVectorizer(
        max_features=config.most_terms, sublinear_tf=True, strip_accents="unicode", dtype=np.float32
    )
    try:
        vectorizer.fit([text for text, is_known in zip(texts, known, strict=True) if is_known])
    except ValueError:  # not one word among the known contents
        return np.zeros((len(texts), config.text_width))
    return axes(vectorizer.transform(texts), known, config.text_width, config.seed)


def axes(matrix: sp.csr_matrix, known: np.ndarray, width: int, seed: int) -> np.ndarray:
    """(i, width) coordinates of all rows on the main axes of the known ones; zeros where axes are fewer."""
    fitted = matrix[known]
    count = min(width, *fitted.shape)
    reduced = np.zeros((matrix.shape[0], width))
    if count:
        svd = TruncatedSVD(count, n_iter=4, random_state=seed).fit(fitted)
        reduced[:, :count] = svd.transform(matrix)
    return reduced


def documents(graph: GraphArrays) -> list[str]:
    """What is told of each content: its words, and the names of its genres, keywords and people."""
    told = [graph.texts("Content", column) for column in TOLD]
    words = [[text for text in texts if text] for texts in zip(*told, strict=True)]
    for fact in NAMED:
        other = _other_role(fact)
        names = graph.texts(other.types[0], "name")
        for content, node in zip(*_links(graph, fact), strict=True):
            if names[node]:
                words[content].append(names[node])
    return [" . ".join(parts) for parts in words]


def structure(graph: GraphArrays, known: np.ndarray, least_contents: int) -> sp.csr_matrix:
    """(i, f) float64 flags: kind, decade, language, genres, countries and people of each content.

    Flags that fewer than ``least_contents`` known contents carry are left out.
    """
    contents, columns, width = [], [], 0
    for content, category, size in _categories(graph):
        contents.append(content)
        columns.append(category + width)
        width += size
    content, column = np.concatenate(contents), np.concatenate(columns)
    flags = sp.csr_matrix((np.ones(len(content)), (content, column)), shape=(len(known), width))
    flags.data[:] = 1  # the same person may have two credits of a kind
    return flags[:, np.asarray(flags[known].sum(0)).ravel() >= max(least_contents, 1)]


def _categories(graph: GraphArrays) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Contents, the category of each, and how many categories there are; one triple per kind of category."""
    decade = graph.numbers("Content", "release_year") // 10
    dated = np.flatnonzero(~np.isnan(decade))
    yield dated, decade[dated].astype(np.int64), int(decade[dated].max(initial=0)) + 1
    for column in ("kind", "original_language"):
        names, category = np.unique(graph.texts("Content", column), return_inverse=True)
        told = np.flatnonzero(names[category] != "") if len(names) else np.empty(0, np.int64)
        yield told, category[told], len(names)
    for fact in LINKED:
        yield *_links(graph, fact), graph.size(_other_role(fact).types[0])


def _links(graph: GraphArrays, fact: str) -> tuple[np.ndarray, np.ndarray]:
    """(f,) rows of contents and (f,) rows of the other members of a binary fact."""
    return graph.incidence(fact, "content")[1], graph.incidence(fact, _other_role(fact).name)[1]


def _other_role(fact: str) -> schema.Role:
    return next(role for role in schema.FACTS[fact].roles if role.name != "content")
