"""The Java of the embedded database: where it lies, and what it is told when it starts."""

from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path

from kg.store.base import StoreError

DATABASE = "media"
"""Name of the one database inside the server."""
USERS = ("root", "reader")
"""Who may come in: one who writes, one who asks."""
GROUPS = {
    "databases": {
        "*": {
            "groups": {
                "admin": {
                    "resultSetLimit": -1,
                    "readTimeout": -1,
                    "access": ["updateSecurity", "updateSchema", "updateDatabaseSettings"],
                    "types": {
                        "*": {"access": ["createRecord", "readRecord", "updateRecord", "deleteRecord"]}
                    },
                },
                "reader": {
                    "resultSetLimit": -1,
                    "readTimeout": -1,
                    "access": [],
                    "types": {"*": {"access": ["readRecord"]}},
                },
            }
        }
    },
    "version": 2,
}

"""What each of them may do, as the server's own file of groups says it."""


def bundled_java() -> Path:
    """The Java that comes with the embedded database."""
    return _package() / "jre" / "bin" / "java"


def argument_file(
    options: Sequence[str],
    folder: Path,
    databases: str,
    bolt_port: int,
    http_port: int,
    passwords: Mapping[str, str],
    command_s: int,
) -> str:
    """Java's argument file: the passwords stand there, not in the list of processes.

    Args:
        options: of Java itself.
        folder: of the server.
        databases: name of the folder in it that holds the database.
        bolt_port: of loopback.
        http_port: of loopback.
        passwords: of :data:`USERS`.
        command_s: longest one statement may run.
    """
    settings = {
        "file.encoding": "UTF-8",
        "arcadedb.server.rootPath": folder,
        "arcadedb.server.databaseDirectory": folder / databases,
        "arcadedb.server.rootPassword": passwords["root"],
        "arcadedb.server.httpIncomingHost": "127.0.0.1",
        "arcadedb.server.httpIncomingPort": http_port,
        "arcadedb.server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
        "arcadedb.bolt.host": "127.0.0.1",
        "arcadedb.bolt.port": bolt_port,
        "arcadedb.bolt.defaultDatabase": DATABASE,
        "arcadedb.server.defaultDatabases": f"{DATABASE}[root,reader:{passwords['reader']}:reader]",
        "arcadedb.txWalFlush": 2,
        "arcadedb.command.timeout": command_s * 1000,
        "arcadedb.bolt.maxMessageSize": 2**28,
        "arcadedb.server.httpBodyContentMaxSize": -1,  # a first load is one request, however large
    }
    lines = [*options, "-cp", f"{_package()}/jars/*"]
    lines += [f"-D{name}={value}" for name, value in settings.items()]
    lines.append("com.arcadedb.server.ArcadeDBServer")
    return "\n".join('"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"' for line in lines)


def _package() -> Path:
    found = util.find_spec("arcadedb_embedded")
    if found is None or found.origin is None:
        raise StoreError(
            "the embedded database is the package arcadedb-embedded, which is not installed: run `make setup`"
        )
    return Path(found.origin).parent
