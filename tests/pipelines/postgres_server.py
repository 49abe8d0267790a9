"""A PostgreSQL server of the tests' own: on loopback, in a temporary directory, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PostgresServer", "running_server", "why_not"]

_DEBIAN = Path("/usr/lib/postgresql")
_USER = "postgres"


def _program(name: str) -> str | None:
    """Return a server program's path; Debian keeps them off the search path, one directory for each version."""
    found = [str(path) for path in sorted(_DEBIAN.glob(f"*/bin/{name}"))]
    return shutil.which(name) or (found[-1] if found else None)


def why_not() -> str:
    """Say why no server can be started here, or nothing."""
    if not (_program("initdb") and _program("pg_ctl")):
        return "PostgreSQL's server is not installed (make system-deps)"
    if os.geteuid() != 0:
        return ""
    if _USER not in {entry.pw_name for entry in pwd.getpwall()} or shutil.which("runuser") is None:
        return "initdb refuses to run as root, and there is no user postgres or no runuser"
    return ""


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Parameters
    ----------
    port
        Its port on 127.0.0.1.
    """

    port: int

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create a database with the extension that the registry needs; return its URL."""
        self.execute("postgres", f'create database "{name}"')
        self.execute(name, "create extension btree_gist")
        return self.url(name)

    def execute(self, database: str, statement: str) -> None:
        """Execute a statement in a database."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


def _run(*arguments: str) -> None:
    """Run a server program, as user postgres where this process is root's."""
    command = [_program(arguments[0]) or arguments[0], *arguments[1:]]
    if os.geteuid() == 0:
        command = ["runuser", "-u", _USER, "--", *command]
    # the server must not inherit a pipe: pg_ctl would keep it open
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", check=False
        )
        output.seek(0)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {output.read().decode(errors='replace')}")


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Start a server, and stop and remove it at the end."""
    # not below pytest's directory, which user postgres may not enter
    folder = Path(tempfile.mkdtemp(prefix="zeropoint-postgres-"))
    data = folder / "data"
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        _run("initdb", "-D", str(data), "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        _run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield PostgresServer(port)
        finally:
            _run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
