"""Where imports are broken off: an embedded database or a Neo4j, on a disk that can be full for a while."""

import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil

from kg.store.bolt import BoltStore
from kg.store.visitors import process_of, read_state

Login = tuple[str, str, str]
_PATIENCE_S = 30.0
_ROOM = "4g"


class Disk:
    """A file system of its own in memory, whose room can be taken away and given back; needs root.

    Full means: not a page more than what stands there, so that the next write that needs one is refused.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._mount("-t", "tmpfs", "-o", f"size={_ROOM}", "mg-bench")

    def fill(self) -> None:
        """From now on nothing more fits."""
        for _ in range(200):  # whoever writes meanwhile makes the size too small to be taken
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            try:
                self._mount("-o", f"remount,size={max(used, found.f_frsize)}")
                return
            except RuntimeError:
                continue
        raise RuntimeError(f"{self.folder} must become full, it kept growing: repeat")

    def free(self) -> None:
        """Gives the room back."""
        self._mount("-o", f"remount,size={_ROOM}")

    def close(self) -> None:
        """Takes the file system away, with all that it holds."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)

    def _mount(self, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.folder} must be mounted, mount says {done.stderr.strip()!r}: be root")


class Place(ABC):
    """A database that imports go to: begun anew for each of them, killed, started again."""

    what: str
    login: Login | None = None

    def __init__(self, folder: Path, disk: Disk | None) -> None:
        """Keeps all under ``folder``, which is the root of ``disk`` where there is one."""
        self.folder, self.disk = folder, disk
        self.home = folder / "home"

    @abstractmethod
    def fresh(self) -> None:
        """Puts the graph, and what imports leave beside it, back to how it is before an import."""

    @abstractmethod
    def server(self) -> psutil.Process | None:
        """The process of the database, where it runs."""

    @abstractmethod
    def restart(self) -> None:
        """After a fault: the database may be used again."""

    def kill(self, is_over: Callable[[], bool]) -> bool:
        """Kills the database, or the next one that the import starts; False where it was over first."""
        until = time.monotonic() + _PATIENCE_S
        while not is_over() and time.monotonic() < until:
            server = self.server()
            if server is not None:
                _end(server, kindly=False)
                return True
            time.sleep(0.001)
        return False

    def close(self) -> None:
        """Ends the database."""
        if (server := self.server()) is not None:
            _end(server, kindly=False)


class Embedded(Place):
    """The embedded database: each command finds it or starts it by itself."""

    def __init__(self, folder: Path, disk: Disk | None, base: Path | None) -> None:
        """``base`` is a home whose graph stands before the import; None begins with none."""
        super().__init__(folder, disk)
        self.base = base
        self.what = "embedded, first load" if base is None else "embedded, onto a graph"

    def fresh(self) -> None:
        self.close()
        shutil.rmtree(self.home, ignore_errors=True)
        if self.base is not None:
            shutil.copytree(self.base, self.home)

    def server(self) -> psutil.Process | None:
        state = read_state(self.home / "database")
        return None if state is None else process_of(state.pid, state.created)

    def restart(self) -> None:
        """The command does it."""


class Neo4j(Place):
    """A Neo4j of our own, started by a script that prints where it answers."""

    what = "Neo4j"

    def __init__(self, folder: Path, disk: Disk | None, script: Path, graph: str) -> None:
        super().__init__(folder, disk)
        self._script, self._graph, self._port = script, graph, _free_port()
        self._server: psutil.Process | None = None
        self._start()

    def fresh(self) -> None:
        if self.server() is None:
            self._start()
        shutil.rmtree(self.home, ignore_errors=True)
        if self.login is None:
            raise RuntimeError("a server must run to be emptied, it does not: start it")
        with BoltStore(*self.login, self._graph) as store:
            while store.run("MATCH (n) WITH n LIMIT 2000 DETACH DELETE n RETURN count(*) AS n")[0]["n"]:
                pass

    def server(self) -> psutil.Process | None:
        return self._server if self._server is not None and _is_alive(self._server) else None

    def restart(self) -> None:
        if (server := self.server()) is not None:
            _end(server, kindly=True)
        self._start()

    def _start(self) -> None:
        call = [str(self._script), "--home", str(self.folder / "neo4j"), "--port", str(self._port)]
        started = subprocess.run([*call, "--heap", "512m"], capture_output=True, text=True, timeout=180)
        if started.returncode:
            raise RuntimeError(f"{self._script} must start a server, it says {started.stderr.strip()!r}")
        said = dict(pair.split("=", 1) for pair in started.stdout.split()[1:])
        self._server = psutil.Process(int(said["NEO4J_PID"]))
        self.login = (said["NEO4J_URI"], said["NEO4J_USER"], said["NEO4J_PASSWORD"])


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process, kindly: bool) -> None:
    """Ends a process of ours and waits until it is gone; one that will not go kindly is killed."""
    try:
        if kindly:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
                return
            except psutil.TimeoutExpired:
                pass
        process.kill()
        process.wait(_PATIENCE_S)
    except psutil.NoSuchProcess:
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
