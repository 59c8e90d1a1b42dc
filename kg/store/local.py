"""The embedded server: ArcadeDB as our child process, on loopback, with a password nobody else can read.

Processes that open the same folder share one server; the last one to leave stops it."""

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import httpx
import neo4j
import psutil
from neo4j import exceptions

from kg.store.base import StoreError
from kg.store.java import DATABASE, GROUPS, USERS, argument_file, bundled_java
from kg.store.visitors import State, Visitor, alive, born, process_of, read_state, write_private, write_state

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loopback speaks plain HTTP: reading all authorities costs 20 ms a call, and a start asks very often."""
_SCARCE_BYTES = 32 * 2**20
_PORT_TAKEN = ("Unable to listen", "BindException")
"""What the server says of a port, of Bolt or of HTTP, that somebody else has taken."""


@dataclass(frozen=True)
class LocalConfig:
    """How the embedded server is run."""

    heap: str = "1g"
    """Java's -Xmx."""
    java_options: tuple[str, ...] = ("-XX:TieredStopAtLevel=1",)
    """More for Java; without its second compiler a start and a load of 200,000 rows take a third less."""
    start_s: float = 60.0
    """How long a start may take."""
    stop_s: float = 30.0
    """How long a clean stop may take before the process is killed."""
    command_s: int = 600
    """Longest one statement may run, reading its answer included; an export of 10 million facts fits."""
    free_bytes: int = 256 * 2**20
    """Least room on the disk to start with."""
    java: Path | None = None
    """Another Java; None takes the one that comes with the package."""


class LocalServer:
    """The server of one folder: started, found, shared, stopped.

    Under ``folder``: ``databases/`` (the data), ``loading/`` (a first load that is not yet published),
    ``config/``, ``log/server.log``, ``secret.json`` (mode 0600), ``server.json`` (who runs, who visits).
    """

    def __init__(self, folder: Path, config: LocalConfig | None = None) -> None:
        self.folder, self.config = Path(folder).resolve(), config or LocalConfig()
        self._token, self._opener = uuid.uuid4().hex, os.getpid()
        self._state: State | None = None

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log" / "server.log"

    @property
    def uri(self) -> str:
        """Where Bolt answers."""
        return f"bolt://127.0.0.1:{self._running.bolt_port}"

    @property
    def http_url(self) -> str:
        """Where HTTP answers."""
        return f"http://127.0.0.1:{self._running.http_port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running.pid

    def open(self) -> "LocalServer":
        """Joins the running server, or starts one; a load that was broken off is thrown away first.

        Raises:
            StoreError: the folder cannot be written, another process loads it just now, the server fails.
        """
        with self._lock():
            state = self._find()
            if state is not None and state.databases == "loading":
                if others := alive(state.visitors):
                    raise StoreError(
                        f"the graph in {self.folder} is being loaded for the first time by process "
                        f"{others[0].pid}: wait until it has ended, or end it"
                    )
                self._end(state)
                state = None
            if state is not None and not self._answers(state):
                self._end(state)
                state = None
            if state is None:
                self._discard()
                for spool in self.folder.glob("spool.*"):
                    shutil.rmtree(spool, ignore_errors=True)
                state = replace(self._start("databases"), visitors=())
            self._keep(replace(state, visitors=(*alive(state.visitors), self._me())))
        return self

    def load_aside(self) -> None:
        """Starts anew on an empty folder that nobody reads before :meth:`publish`; for a sole visitor."""
        with self._lock():
            self._end(self._running)
            self._discard()
            self._keep(self._start("loading"))

    def publish(self) -> None:
        """Stops the server cleanly, makes what was loaded the database, and starts on it."""
        with self._lock():
            self._end(self._running)
            self._rename()
            self._keep(self._start("databases"))

    def give_up_load(self) -> None:
        """Throws away what was loaded and starts on the database as it was."""
        with self._lock():
            self._end(self._running)
            self._discard()
            self._keep(self._start("databases"))

    def is_shared(self) -> bool:
        """Whether other living processes, or other stores of this one, visit the server."""
        with self._lock():
            state = read_state(self.folder)
            return state is not None and any(v.token != self._token for v in alive(state.visitors))

    def close(self) -> None:
        """Leaves; the last visitor stops the server."""
        if self._state is None or os.getpid() != self._opener:  # a forked child leaves the server alone
            return
        with self._lock():
            state = read_state(self.folder)
            if state is not None and state.pid == self._state.pid:
                left = tuple(v for v in alive(state.visitors) if v.token != self._token)
                if left:
                    write_state(self.folder, replace(state, visitors=left))
                else:
                    self._end(state)
            self._state = None

    def secret(self, user: str) -> str:
        """Password of ``root`` or ``reader``, made at the first start."""
        path = self.folder / "secret.json"
        if not path.exists():
            write_private(path, json.dumps({name: secrets.token_hex(16) for name in USERS}))
        return json.loads(path.read_text(encoding="utf-8"))[user]

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Asks in ArcadeDB's own SQL, over HTTP."""
        return self.http(f"/api/v1/query/{DATABASE}", json={"language": "sql", "command": sql})["result"]

    def command(self, sql: str) -> None:
        """Runs a statement of ArcadeDB's own SQL that changes something."""
        self.http(f"/api/v1/command/{DATABASE}", json={"language": "sql", "command": sql})

    def http(self, path: str, **request: Any) -> dict[str, Any]:
        """Posts to the server's HTTP interface as root."""
        try:
            reply = httpx.post(
                self.http_url + path,
                auth=("root", self.secret("root")),
                timeout=self.config.command_s,
                verify=_NO_AUTHORITIES,
                **request,
            )
        except httpx.HTTPError as error:
            raise self.trouble(f"must answer, it does not ({error or type(error).__name__})") from error
        if reply.status_code != 200:
            raise self.trouble(f"refuses {path} ({reply.status_code}: {reply.text[:300]})")
        return reply.json()

    def trouble(self, what: str) -> StoreError:
        """The error for a server that does not do its part: a full disk is the first thing to think of."""
        room = shutil.disk_usage(self.folder).free
        if room < _SCARCE_BYTES:
            return StoreError(
                f"the embedded server needs room in {self.folder}, {room // 2**20} MB are left; it {what}: "
                "free some disk, then repeat the command"
            )
        return StoreError(f"the embedded server {what}: see {self.log}, then repeat the command")

    @property
    def _running(self) -> State:
        if self._state is None:
            raise StoreError(f"the server of {self.folder} is closed: open the graph again")
        return self._state

    def _me(self) -> Visitor:
        return Visitor(os.getpid(), born(psutil.Process()), self._token)

    def _find(self) -> State | None:
        """The server that the state file names, if that very process still runs."""
        state = read_state(self.folder)
        if state is not None and process_of(state.pid, state.created) is None:
            state = None
        return state

    def _keep(self, state: State) -> None:
        self._state = state
        write_state(self.folder, state)

    def _start(self, databases: str) -> State:
        (self.folder / databases).mkdir(exist_ok=True)
        for name in ("config", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        room = shutil.disk_usage(self.folder).free
        if room < self.config.free_bytes:
            raise StoreError(
                f"{self.folder} needs {self.config.free_bytes // 2**20} MB of free disk, "
                f"it has {room // 2**20}: free some, or name another folder with MG_HOME"
            )
        (self.folder / "config" / "server-groups.json").write_text(json.dumps(GROUPS), encoding="utf-8")
        for _ in range(3):  # a free port may be taken before Java binds it
            said_before = self.log.stat().st_size if self.log.exists() else 0
            state = self._spawn(databases, _free_port(), _free_port())
            if self._wait(state, said_before):
                return state
        raise StoreError(f"the embedded server found no free port three times: see {self.log}")

    def _spawn(self, databases: str, bolt_port: int, http_port: int) -> State:
        java = self.config.java or bundled_java()
        arguments, passwords = self.folder / "java.args", {name: self.secret(name) for name in USERS}
        options = [f"-Xmx{self.config.heap}", *self.config.java_options]
        told = argument_file(
            options, self.folder, databases, bolt_port, http_port, passwords, self.config.command_s
        )
        write_private(arguments, told)
        try:
            with self.log.open("ab") as log:
                child = subprocess.Popen(
                    [java, f"@{arguments}"],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is ours to handle, the server ends when we close
                )
        except OSError as error:
            raise StoreError(
                f"the embedded database needs the Java that comes with arcadedb-embedded, {java} does "
                f"not run ({error}): install the package again"
            ) from error
        self._child = child
        try:
            created = born(psutil.Process(child.pid))
        except psutil.NoSuchProcess:
            created = 0.0
        state = State(child.pid, created, bolt_port, http_port, databases, (self._me(),))
        write_state(self.folder, state)
        return state

    def _wait(self, state: State, said_before: int) -> bool:
        """Waits until the server answers; False when its port was taken and another may be tried."""
        until = time.monotonic() + self.config.start_s
        while time.monotonic() < until:
            if self._child.poll() is not None:
                break
            if self._answers(state):
                return True
            time.sleep(0.05)
        self._end(state)
        said = _said(self.log, said_before)
        if any(words in said for words in _PORT_TAKEN):
            return False
        code = self._child.poll()
        raise StoreError(
            f"the embedded database must answer within {self.config.start_s:.0f} s, it "
            f"{'ended with code ' + str(code) if code is not None else 'did not'}; "
            f"last words: {said[-300:]!r}: see {self.log}, then repeat the command"
        )

    def _answers(self, state: State) -> bool:
        try:
            ready = f"http://127.0.0.1:{state.http_port}/api/v1/ready"
            if httpx.get(ready, timeout=5, verify=_NO_AUTHORITIES).status_code != 204:
                return False
            with neo4j.GraphDatabase.driver(
                f"bolt://127.0.0.1:{state.bolt_port}",
                auth=("reader", self.secret("reader")),
                connection_timeout=5,
                telemetry_disabled=True,
            ) as driver:
                driver.verify_connectivity()
            return True
        except (httpx.HTTPError, exceptions.DriverError, exceptions.Neo4jError, OSError):
            return False

    def _end(self, state: State) -> None:
        """Ends that very process: asks, then kills."""
        process = process_of(state.pid, state.created)
        if process is not None:
            try:
                process.send_signal(signal.SIGTERM)
                process.wait(self.config.stop_s)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(self.config.stop_s)
            except psutil.NoSuchProcess:
                pass
        (self.folder / "server.json").unlink(missing_ok=True)

    def _rename(self) -> None:
        loading, final, empty = (self.folder / name for name in ("loading", "databases", "databases.empty"))
        for path in loading.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        final.rename(empty)
        loading.rename(final)
        self._discard()

    def _discard(self) -> None:
        """Removes what a load that was broken off has left."""
        for name in ("loading", "databases.empty"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Starts and stops of one folder happen one after another."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            lock = filelock.FileLock(self.folder / "server.lock")
            lock.acquire(timeout=2 * self.config.start_s)
        except filelock.Timeout:
            raise StoreError(
                f"{self.folder / 'server.lock'} must become free, another process has held it for "
                f"{2 * self.config.start_s:.0f} s: end that process"
            ) from None
        except OSError as error:
            raise StoreError(
                f"{self.folder} must be a folder that can be written ({error}): name another with MG_HOME"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _said(log: Path, start: int) -> str:
    """What the log holds from byte ``start`` on."""
    try:
        return log.read_bytes()[start:].decode(errors="replace")
    except OSError:
        return ""
