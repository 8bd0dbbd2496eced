"""Values on disk: facts in one SQLite file for ever, arrays in safetensors files under a size limit.

Nothing is believed: a fact carries a checksum, an array file is named after the SHA-256 of its bytes and checked when a
process first opens it; what does not agree is dropped and computed again. Several processes may share a folder: SQLite
serialises the index, and array files are written whole under a temporary name and then renamed. Nothing waits for the medium: a
process that is killed loses nothing that was put, and a machine that loses power may leave an index that is refused as damaged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from netfl.errors import NetflError

__all__ = ["Disk", "default_folder", "platform_mark"]

_LOG = logging.getLogger("netfl")
_VERSION = 1
_STRAY_S = 3600.0
_BUSY_S = 60.0
_RETRY_S = 0.02
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (key BLOB PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arrays (key BLOB PRIMARY KEY, file TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (file TEXT PRIMARY KEY, num_bytes INTEGER NOT NULL, used_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS arrays_by_file ON arrays (file);
"""


def default_folder() -> Path:
    """`$NETFL_STORE`, else `$XDG_CACHE_HOME/netfl`, else `~/.cache/netfl`."""
    if os.environ.get("NETFL_STORE"):
        return Path(os.environ["NETFL_STORE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netfl"


def platform_mark() -> str:
    """What a number may depend on beside its recipe: the release of torch, the machine and its vector instructions."""
    flags: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                flags = set(line.split())
                break
    except OSError:
        flags = {platform.processor()}
    vectors = ",".join(sorted(flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve"}))
    return f"torch {metadata.version('torch')} {platform.machine()} {vectors} {os.environ.get('ATEN_CPU_CAPABILITY', '')}"


class Disk:
    """A folder of values by key.

    Args:
        folder: made if it does not exist.
        limit_bytes: how much the array files may take; the least recently used go first.

    Raises:
        NetflError: the folder cannot be used: another version's, damaged, or not writable; the message says what to do.
    """

    def __init__(self, folder: Path, limit_bytes: int = 10 * 1024**3) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._mark = platform_mark().encode()
        self._checked: set[str] = set()
        self._used: set[str] = set()
        self._writes = True
        try:
            (folder / "arrays").mkdir(parents=True, exist_ok=True)
            self._index, version = _open_index(folder / "store.db")
        except (OSError, sqlite3.Error) as error:
            raise NetflError(f"the store '{folder}' cannot be used: {error}; delete it, or name another by NETFL_STORE") from None
        if version not in (0, _VERSION):
            raise NetflError(
                f"the store '{folder}' is of version {version}, this netfl writes version {_VERSION}; delete it, or name another by NETFL_STORE"
            )

    def fact(self, key: bytes) -> Any:
        """The fact of a key, or None."""
        key = self._own(key)
        row = self._row("SELECT value, checksum FROM facts WHERE key = ?", key)
        if row is None:
            return None
        if _checksum(key, row[0]) != row[1]:
            self._index.execute("DELETE FROM facts WHERE key = ?", (key,))
            self._index.commit()
            return None
        return json.loads(row[0])

    def arrays(self, key: bytes) -> dict[str, np.ndarray] | None:
        """The named arrays of a key, or None."""
        row = self._row("SELECT file FROM arrays WHERE key = ?", self._own(key))
        if row is None or not self._check(row[0]):
            return None
        from safetensors import safe_open

        prefix = self._own(key).hex() + "/"
        try:
            with safe_open(self._path(row[0]), framework="numpy") as file:
                found = {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
        except FileNotFoundError:  # another process made room
            return None
        self._used.add(row[0])
        return found or None

    def put(self, facts: Sequence[tuple[bytes, Any]], arrays: Sequence[tuple[bytes, Mapping[str, np.ndarray]]]) -> None:
        """Keep what one forcing made, in one transaction; a full disk ends the keeping with a warning, not the run."""
        if not self._writes or not (facts or arrays):
            return
        try:
            rows = []
            for key, value in facts:
                own, text = self._own(key), json.dumps(value)
                rows.append((own, text, _checksum(own, text)))
            file, num_bytes = self._write(arrays) if arrays else ("", 0)
            with self._index:
                self._index.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)
                if file:
                    self._index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (file, num_bytes, time.time()))
                    self._index.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?)", [(self._own(key), file) for key, _ in arrays])
        except (OSError, sqlite3.Error) as error:
            self._writes = False
            _LOG.warning("the store '%s' cannot be written any more (%s): this run keeps no further values", self.folder, error)

    def usage(self) -> dict[str, Any]:
        """What the folder holds: `facts`, `values` with arrays, `files` and `bytes` of these, `oldest_s` and `newest_s` use (seconds since
        1970; None without files), and `limit_bytes`.
        """
        facts, values = (self._index.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("facts", "arrays"))
        files, num_bytes, oldest_s, newest_s = self._index.execute(
            "SELECT count(*), coalesce(sum(num_bytes), 0), min(used_s), max(used_s) FROM files"
        ).fetchone()
        return {
            "facts": facts, "values": values, "files": files, "bytes": num_bytes, "oldest_s": oldest_s, "newest_s": newest_s,
            "limit_bytes": self.limit_bytes,
        }  # fmt: skip

    def collect_garbage(self, limit_bytes: int) -> tuple[int, int]:
        """Forget the arrays that were not used for longest until the rest fits, and files that a killed process left half-written.

        Facts stay: they are small, and a run that finds them needs no arrays.

        Args:
            limit_bytes: how much the array files may take.

        Returns:
            How many files went, and their bytes.
        """
        before = self.usage()
        self.limit_bytes, limit = limit_bytes, self.limit_bytes
        self._make_room()
        self.limit_bytes = limit
        after = self.usage()
        strays = strays_bytes = 0
        known = {row[0] for row in self._index.execute("SELECT file FROM files")}
        for path in sorted((self.folder / "arrays").glob("*/*")):
            try:
                is_old = time.time() - path.stat().st_mtime > _STRAY_S
                if is_old and path.name.removesuffix(".safetensors") not in known:
                    strays_bytes += path.stat().st_size
                    strays += 1
                    path.unlink()
            except FileNotFoundError:
                continue
        return before["files"] - after["files"] + strays, before["bytes"] - after["bytes"] + strays_bytes

    def close(self) -> None:
        """Note what was used, and make room."""
        try:
            with self._index:
                self._index.executemany("UPDATE files SET used_s = ? WHERE file = ?", [(time.time(), file) for file in sorted(self._used)])
            self._make_room()
            self._index.close()
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("the store '%s' could not be tidied: %s", self.folder, error)

    def _row(self, query: str, key: bytes) -> Any:
        """The row of a key.

        Raises:
            NetflError: the index is damaged.
        """
        try:
            return self._index.execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise NetflError(f"the store '{self.folder}' cannot be read: {error}; delete it, or name another by NETFL_STORE") from None

    def _own(self, key: bytes) -> bytes:
        """A recipe's key on this platform."""
        return hashlib.sha256(self._mark + key).digest()

    def _path(self, file: str) -> Path:
        return self.folder / "arrays" / file[:2] / f"{file}.safetensors"

    def _write(self, arrays: Iterable[tuple[bytes, Mapping[str, np.ndarray]]]) -> tuple[str, int]:
        """One file for all arrays of one forcing; its name and length."""
        from safetensors.numpy import save

        data = save(
            {f"{self._own(key).hex()}/{name}": np.ascontiguousarray(array) for key, named in arrays for name, array in named.items()}
        )
        file = hashlib.sha256(data).hexdigest()
        path = self._path(file)
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._checked.add(file)
        return file, len(data)

    def _check(self, file: str) -> bool:
        """Whether a file's bytes are those that were written; one that is damaged or gone is forgotten."""
        if file in self._checked:
            return True
        try:
            digest = hashlib.sha256(self._path(file).read_bytes()).hexdigest()
        except OSError:
            digest = ""
        if digest == file:
            self._checked.add(file)
            return True
        self._forget(file)
        return False

    def _forget(self, file: str) -> None:
        with self._index:
            self._index.execute("DELETE FROM arrays WHERE file = ?", (file,))
            self._index.execute("DELETE FROM files WHERE file = ?", (file,))
        self._path(file).unlink(missing_ok=True)

    def _make_room(self) -> None:
        kept_bytes = self._index.execute("SELECT coalesce(sum(num_bytes), 0) FROM files").fetchone()[0]
        if kept_bytes <= self.limit_bytes:
            return
        for file, num_bytes in self._index.execute("SELECT file, num_bytes FROM files ORDER BY used_s, file").fetchall():
            self._forget(file)
            kept_bytes -= num_bytes
            if kept_bytes <= self.limit_bytes:
                return


def _open_index(path: Path) -> tuple[sqlite3.Connection, int]:
    """The index, made if it does not exist, and its version.

    SQLite waits for another process in every statement but one: of two that turn a new file to write-ahead logging at once, it refuses one
    without waiting. That one tries again.
    """
    end_s = time.monotonic() + _BUSY_S
    while True:
        index = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            index.execute("PRAGMA journal_mode=WAL")
            index.execute("PRAGMA synchronous=OFF")
            version = index.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                index.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;")
            return index, version
        except sqlite3.Error as error:
            index.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                raise
            time.sleep(_RETRY_S)


def _checksum(key: bytes, text: str) -> bytes:
    return hashlib.sha256(key + text.encode()).digest()[:8]
