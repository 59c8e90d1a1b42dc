"""Facts that an import takes out of the store for a while, on disk until they stand there again."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from kg.records import Hyperedge

FILE = "aside.jsonl"


class SetAside:
    """A file of facts: on disk before they leave the store, gone once they are back.

    An import that is killed in between leaves the file, and the next one puts the facts back.

    Example:
        >>> import tempfile
        >>> aside = SetAside(Path(tempfile.mkdtemp()) / FILE)
        >>> aside.keep([Hyperedge("MADE_IN", {"content": ("content:a",), "region": ("region:US",)}, "me")])
        >>> [fact.source for fact in aside.facts()], aside.clear(), aside.facts()
        (['me'], None, [])
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, facts: Iterable[Hyperedge]) -> None:
        """Adds facts to the file; on disk when this returns.

        Raises:
            OSError: the disk is full; nothing may leave the store then.
        """
        lines = [json.dumps(_plain(fact), ensure_ascii=False) for fact in facts]
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + "".join(f"{line}\n" for line in lines))  # after a line that was cut off
            file.flush()
            os.fsync(file.fileno())

    def facts(self) -> list[Hyperedge]:
        """The facts in the file, each once; a line cut off is none: its fact has not left the store."""
        found: dict[str, Hyperedge] = {}
        for line in self.path.read_text(encoding="utf-8").split("\n") if self.path.is_file() else ():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            members = {role: tuple(ids) for role, ids in told.pop("members").items()}
            properties = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in told.pop("properties").items()
            }
            fact = Hyperedge(members=members, properties=properties, **told)
            found[fact.id] = fact
        return list(found.values())

    def clear(self) -> None:
        """Forgets them: they stand in the store again."""
        self.path.unlink(missing_ok=True)


def _plain(fact: Hyperedge) -> dict[str, object]:
    return {
        "type": fact.type,
        "members": dict(fact.members),
        "source": fact.source,
        "properties": dict(fact.properties),
        "start_ts": fact.start_ts,
        "end_ts": fact.end_ts,
        "confidence": fact.confidence,
    }
