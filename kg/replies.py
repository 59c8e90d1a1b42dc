"""Replies of an API kept on disk, one file a request: asked once, told as often as wanted."""

import hashlib
import json
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx

from kg.http import ApiClient, CursorRefused, HttpConfig, Key, KeyMissing
from kg.records import Hyperedge, Node, SourceError
from kg.tables import BadValue, FileCount, TableSource, inside

_RESTARTS = 2
_NAME_LIMIT = 100


class ApiSource(TableSource):
    """A source that asks an API, and keeps each reply as a file.

    The files are the snapshot: a second reading, and an import that was broken off, takes what is there and
    asks for the rest only. Nothing is asked twice until somebody removes the folder. No file
    holds the key.
    """

    key: ClassVar[Key]
    base: ClassVar[str]
    items: ClassVar[str]
    """What a page calls its list."""
    credit: ClassVar[str]
    """What the API's terms want to be said."""
    transport: httpx.BaseTransport | None = None
    """Takes the place of the network, in tests."""
    _client: ApiClient | None = None

    @property
    def folder(self) -> Path:
        """Where the replies lie."""
        return Path(self.config.folder)

    @abstractmethod
    def next_page(self, reply: Any, parameters: Mapping[str, str]) -> Mapping[str, str] | None:
        """Parameters of the page after a reply, None after the last."""

    def listing(
        self, path: str, parameters: Mapping[str, str], key_of: Callable[[Any], str]
    ) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Every object of a list that is spread over pages, each once, with its file and place in it.

        The list is first read to its end, then told. It may change under the cursor: what moved to a later
        page is told once; a cursor that the API forgot starts the list anew, twice at most.

        Raises:
            SourceError: a reply of another shape, or a cursor that runs in a circle.
        """
        told: set[str] = set()
        for file in self._to_the_end(path, parameters):
            for place, found in enumerate(self.objects(file, self._stored(file)), 1):
                self._path = file
                self._count()
                try:
                    key = key_of(found)
                except (KeyError, TypeError) as error:
                    remedy = "an id belongs here: ask the API's makers"
                    self.reject(file, place, str(error), str(found)[:80], remedy)
                    continue
                if key in told:
                    self.repair("object that moved to a later page told once")
                    continue
                told.add(key)
                yield file, place, found

    def _to_the_end(self, path: str, parameters: Mapping[str, str]) -> list[Path]:
        for restart in range(_RESTARTS + 1):
            read: list[Path] = []
            try:
                page: Mapping[str, str] | None = parameters
                while page is not None:
                    file, reply = self.reply(path, page)
                    if file in read:
                        remedy = "remove the folder and try again later"
                        raise SourceError(file, "a cursor that goes on", "one that was there before", remedy)
                    self.objects(file, reply)
                    read.append(file)
                    page = self.next_page(reply, page)
                return read
            except CursorRefused as error:
                if not read or restart == _RESTARTS:
                    must = "a list that can be read to its end"
                    raise SourceError(self.base + path, must, str(error), "try again later") from error
                self.repair("list that changed under the cursor read anew")
                for file in read:
                    file.unlink()
        return []

    def objects(self, file: Path, reply: Any) -> list[Any]:
        """The list in a reply.

        Raises:
            SourceError: the reply holds no such list.
        """
        found = reply.get(self.items) if isinstance(reply, dict) else None
        if not isinstance(found, list):
            came = ", ".join(map(str, reply))[:200] if isinstance(reply, dict) else type(reply).__name__
            raise SourceError(
                file,
                f"a reply with the columns {self.items}",
                came or "nothing",
                "remove the file to ask again",
            )
        return found

    def reply(self, path: str, parameters: Mapping[str, str]) -> tuple[Path, Any]:
        """The file of a request and what it answers; asks the API where the file is not there.

        Raises:
            SourceError: the file is spoilt, or is not there and cannot be asked for without a key.
            ApiError: see :meth:`kg.http.ApiClient.get`.
        """
        file = self.folder / file_name(path, parameters)
        self._path = file
        self.files.setdefault(file, FileCount())
        if file.is_file():
            return file, self._stored(file)
        came = self._ask(file, path, parameters)
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}.new")
        asked = datetime.now(UTC).isoformat(timespec="seconds")
        aside.write_text(json.dumps({"asked": asked, "reply": came}, ensure_ascii=False), encoding="utf-8")
        aside.replace(file)
        return file, came

    def observed_ts(self, file: Path) -> int:
        """UTC seconds at which a reply came."""
        return int(datetime.fromisoformat(json.loads(file.read_text(encoding="utf-8"))["asked"]).timestamp())

    def tell_object(
        self, file: Path, place: int, read: Callable[[dict[str, Any]], Iterator[Node | Hyperedge]], found: Any
    ) -> list[Node | Hyperedge]:
        """What ``read`` makes of an object; nothing, and a reject, where its shape is another."""
        self._path = file

        def careful(_: Any) -> Iterator[Node | Hyperedge]:
            try:
                yield from read(found)
            except CursorRefused:
                self.repair("object that is in the list and no more in the API left out")
            except (KeyError, TypeError, AttributeError) as error:
                remedy = "the documented shape belongs here: remove the file to ask the API again"
                raise BadValue(str(error)[:80], str(found)[:80], remedy) from None

        return self.tell(file, place, careful, {})

    def _ask(self, file: Path, path: str, parameters: Mapping[str, str]) -> Any:
        if self._client is None:
            http = HttpConfig(per_s=self.config.per_s)
            self._client = ApiClient(self.config.base or self.base, self.key, http, self.transport)
        try:
            return self._client.get(path, parameters)
        except KeyMissing as error:
            is_there = self.folder.is_dir() and any(self.folder.iterdir())
            there = "replies, but not this one" if is_there else "nothing"
            raise SourceError(
                self.folder,
                f"the folder holds {file.name}, or the API can be asked for it",
                there,
                str(error),
            ) from error

    def _stored(self, file: Path) -> Any:
        inside(self.folder, file)
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            datetime.fromisoformat(kept["asked"])
            return kept["reply"]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(
                file,
                "a kept reply with the columns asked, reply",
                f"something else ({error})",
                "remove the file to ask the API again",
            ) from error


def file_name(path: str, parameters: Mapping[str, str]) -> str:
    """The file of a request; the same request has the same.

    Example:
        >>> file_name("/discover/movie", {"page": "2"})
        'discover-movie--page-2.json'
    """
    said = [path.strip("/"), *(f"-{name}-{value}" for name, value in sorted(parameters.items()))]
    whole = "-".join(said)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", whole)
    if plain == whole.replace("/", "-") and len(plain) <= _NAME_LIMIT:
        return f"{plain}.json"
    return f"{plain[:_NAME_LIMIT]}-{hashlib.blake2b(whole.encode(), digest_size=6).hexdigest()}.json"
