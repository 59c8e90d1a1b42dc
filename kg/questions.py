"""The Cypher of every question that the house asks, once: one text for ArcadeDB and Neo4j alike.

Values travel as parameters; texts end without an order, which Python gives, so that all stores agree."""

from collections.abc import Mapping
from types import MappingProxyType

_HELD = "(f.start_ts IS NULL OR f.start_ts <= $at) AND (f.end_ts IS NULL OR $at < f.end_ts)"

WINDOWS = f"""
MATCH (f:`Available`)-[:`AVAILABLE_CONTENT`]->(c:`Content` {{id: $content_id}})
MATCH (f)-[:`AVAILABLE_REGION`]->(r:`Region`)
WHERE r.id IN $region_ids AND {_HELD}
MATCH (f)-[:`AVAILABLE_PLATFORM`]->(p:`Platform`)
RETURN DISTINCT f.id AS id, p.id AS platform_id, p.name AS platform, f.offer AS offer, f.price AS price,
       f.currency AS currency, f.start_ts AS start_ts, f.end_ts AS end_ts, f.simulated AS simulated,
       f.quality_tiers AS quality_tiers, f.source AS source, f.confidence AS confidence
"""

EXPIRING = """
MATCH (f:`Available`)-[:`AVAILABLE_REGION`]->(r:`Region`)
WHERE r.id IN $region_ids AND (f.start_ts IS NULL OR f.start_ts <= $at)
      AND $at < f.end_ts AND f.end_ts <= $until
MATCH (f)-[:`AVAILABLE_CONTENT`]->(c:`Content`)
RETURN DISTINCT c.id AS content_id, f.end_ts AS end_ts
"""

SHARED_BELOW = """
MATCH (c:`Content` {id: $content_id})-[r]->(x)<-[s]-(o:`Content`)
WHERE type(r) IN $types AND type(s) = type(r) AND o.id <> $content_id
RETURN o.id AS id, o.title AS title, type(r) AS type, count(DISTINCT x) AS shared
"""

SHARED_ABOVE = """
MATCH (c:`Content` {id: $content_id})<-[r]-(x)-[s]->(o:`Content`)
WHERE type(r) IN $types AND type(s) = type(r) AND o.id <> $content_id
RETURN o.id AS id, o.title AS title, type(r) AS type, count(DISTINCT x) AS shared
"""

CONTENT = "MATCH (c:`Content` {id: $content_id}) RETURN properties(c) AS properties"

ABOUT = """
MATCH (c:`Content` {id: $content_id})-[r]->(x)
WHERE type(r) IN ['BELONGS_TO', 'MADE_BY', 'MADE_IN', 'SPOKEN_IN']
RETURN DISTINCT type(r) AS type, x.id AS id, x.name AS name
"""

CREDITED = """
MATCH (c:`Content` {id: $content_id})<-[r]-(p:`Person`)
WHERE type(r) IN $types
RETURN type(r) AS type, r.id AS id, p.id AS person_id, p.name AS name, r.character AS character,
       r.billing_order AS billing_order
"""

FROM_FRIENDS = """
MATCH (u:`User` {id: $user_id})-[w:`FOLLOWS`]->(v:`User`)-[l:`RATED`]->(c:`Content`)
WHERE l.rating >= $least AND (l.start_ts IS NULL OR l.start_ts <= $at)
      AND (w.start_ts IS NULL OR w.start_ts <= $at) AND (w.end_ts IS NULL OR $at < w.end_ts)
      AND NOT EXISTS { MATCH (u)-[own:`RATED`]->(c) WHERE own.start_ts IS NULL OR own.start_ts <= $at }
WITH u, c, count(DISTINCT v) AS friends
MATCH (c)-[:`BELONGS_TO`]->(g:`Genre`)<-[:`BELONGS_TO`]-(o:`Content`)<-[h:`RATED`]-(u)
WHERE h.rating >= $least AND (h.start_ts IS NULL OR h.start_ts <= $at)
RETURN c.id AS content_id, c.title AS title, friends, count(DISTINCT o) AS close
"""

RATED_WELL = """
MATCH (c:`Content`)<-[l:`RATED`]-(v:`User`)
WHERE (l.start_ts IS NULL OR l.start_ts <= $at) AND c.trust > $trust
WITH c, count(l) AS ratings, sum(l.rating) AS total
WHERE $least_ratings <= ratings AND ratings <= $most_ratings AND total >= $rating * ratings
RETURN c.id AS content_id, c.title AS title, c.trust AS trust, ratings, total
"""

CANDIDATES = f"""
MATCH (f:`Available`)-[:`AVAILABLE_REGION`]->(r:`Region`)
WHERE r.id IN $region_ids AND {_HELD}
MATCH (f)-[:`AVAILABLE_PLATFORM`]->(p:`Platform`)
WHERE $any_platform OR p.id IN $platform_ids
MATCH (f)-[:`AVAILABLE_CONTENT`]->(c:`Content`)
WITH DISTINCT c
WHERE NOT EXISTS {{
  MATCH (u:`User` {{id: $user_id}})-[x]->(c)
  WHERE type(x) IN ['RATED', 'DISMISSED'] AND (x.start_ts IS NULL OR x.start_ts <= $at)
}}
OPTIONAL MATCH (c)<-[l:`RATED`]-(v:`User`)
WHERE l.rating >= $least AND (l.start_ts IS NULL OR l.start_ts <= $at)
RETURN c.id AS content_id, c.title AS title, c.release_year AS release_year, count(l) AS likes
"""

TRUSTED = """
MATCH (c:`Content`)
WHERE c.trust > $trust AND c.completeness > $completeness AND c.last_verified_ts <= $at
RETURN c.id AS content_id, c.title AS title, c.trust AS trust, c.completeness AS completeness,
       c.last_verified_ts AS last_verified_ts
"""

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "windows": WINDOWS,
        "expiring": EXPIRING,
        "shared_below": SHARED_BELOW,
        "shared_above": SHARED_ABOVE,
        "content": CONTENT,
        "about": ABOUT,
        "credited": CREDITED,
        "from_friends": FROM_FRIENDS,
        "rated_well": RATED_WELL,
        "candidates": CANDIDATES,
        "trusted": TRUSTED,
    }
)
"""Every text by name; the memory store answers each of them too (:mod:`kg.store.oracle`)."""
