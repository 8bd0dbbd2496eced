"""Values on disk: facts in one SQLite file for ever, arrays in safetensors files under a size limit.

Short array files lie in the SQLite file: a write takes a quarter less time so, and a long training of a small model makes no thousands of
files.

Nothing is believed: a fact carries a checksum, an array file is named after the SHA-256 of its bytes and checked when a
process first opens it, a short one whenever it is read; what does not agree is dropped and computed again. An index that SQLite cannot
read is set aside as `store.db.damaged`, and a new one begun; one that cannot be written is read. Several processes may share a folder:
SQLite serialises the index, and array files are written whole under a temporary name and then renamed. Who sets an index aside does so
alone, and never a newer one than it found damaged; a process that has the old one open goes on with it, and SQLite, which sees that its
file has moved, leaves the new one's files alone. Nothing waits for the medium: a process that is killed loses nothing that was put, and
a machine that loses power may leave a damaged index.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from netfl.errors import NetflError
from netfl.units import parse

__all__ = ["Disk", "default_folder", "platform_mark"]

_LOG = logging.getLogger("netfl.store")
_VERSION = 1
_FILE = re.compile("[0-9a-f]{64}")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR)
_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_MOST_SET_ASIDE = 3
_SAID = (sqlite3.Error, UnicodeDecodeError)  # the latter where what SQLite says quotes a damaged name
_SHORT_BYTES = 2**16
_STRAY_S = 3600.0
_BUSY_S = 60.0
_RETRY_S = 0.02
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (key BLOB PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arrays (key BLOB PRIMARY KEY, file TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (file TEXT PRIMARY KEY, num_bytes INTEGER NOT NULL, used_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS arrays_by_file ON arrays (file);
"""
_SHORT_FILES = "CREATE TABLE IF NOT EXISTS short_files (file TEXT PRIMARY KEY, data BLOB NOT NULL)"  # which the first stores did not have
_Found = TypeVar("_Found")


def default_folder() -> Path:
    """`$NETFL_STORE`, else `$XDG_CACHE_HOME/netfl`, else `~/.cache/netfl`."""
    if os.environ.get("NETFL_STORE"):
        return Path(os.environ["NETFL_STORE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netfl"


def _default_limit_bytes() -> int:
    """`$NETFL_STORE_LIMIT`, such as `2 GB`, else 10 GiB.

    Raises:
        NetflError: it is no number of bytes.
    """
    text = os.environ.get("NETFL_STORE_LIMIT")
    try:
        return round(parse(text, "size")) if text else 10 * 1024**3
    except ValueError as error:
        raise NetflError(f"NETFL_STORE_LIMIT: {error}") from None


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
        limit_bytes: how much the array files may take, the least recently used of which go first; None for what the environment says.

    Raises:
        NetflError: the folder cannot be used: another version's, or it can neither be made nor read; the message says what to do.
    """

    def __init__(self, folder: Path, limit_bytes: int | None = None) -> None:
        self.folder = folder
        self.limit_bytes = _default_limit_bytes() if limit_bytes is None else limit_bytes
        self._mark = platform_mark().encode()
        self._checked: set[str] = set()
        self._used: set[str] = set()
        self._writes = True
        try:
            (folder / "arrays").mkdir(parents=True, exist_ok=True)
            self._index, self._identity = self._open()
        except (OSError, sqlite3.Error) as error:
            raise NetflError(
                f"the store '{folder}' cannot be used: {error}; {_what_to_do(error)}, or name another by NETFL_STORE"
            ) from None

    def fact(self, key: bytes) -> Any:
        """The fact of a key, or None."""
        key = self._own(key)
        row = self._row("SELECT CAST(value AS BLOB), checksum FROM facts WHERE key = ?", key)
        if row is None:
            return None
        if _checksum(key, row[0] or b"") != row[1]:
            self._drop("DELETE FROM facts WHERE key = ?", key)
            return None
        return json.loads(row[0])

    def arrays(self, key: bytes) -> dict[str, np.ndarray] | None:
        """The named arrays of a key, or None."""
        query = "SELECT CAST(arrays.file AS BLOB), CAST(data AS BLOB) FROM arrays LEFT JOIN short_files USING (file) WHERE key = ?"
        row = self._row(query, self._own(key))
        if row is None:
            return None
        name, short = (row[0] or b"").decode("ascii", "replace"), row[1]
        if not _FILE.fullmatch(name):
            self._drop("DELETE FROM arrays WHERE key = ?", self._own(key))
            return None
        if not self._check(name, short):
            return None
        prefix = self._own(key).hex() + "/"
        try:
            found = self._load(name, short, prefix)
        except FileNotFoundError:  # another process made room
            return None
        self._used.add(name)
        return {each.removeprefix(prefix): array for each, array in found.items()} or None

    def put(self, facts: Sequence[tuple[bytes, Any]], arrays: Sequence[tuple[bytes, Mapping[str, np.ndarray]]]) -> None:
        """Keep what one forcing made, in one transaction; a full disk ends the keeping with a warning, not the run."""
        if not self._writes or not (facts or arrays):
            return
        try:
            rows = []
            for key, value in facts:
                own, text = self._own(key), json.dumps(value)
                rows.append((own, text, _checksum(own, text.encode())))
            file, data = self._write(arrays) if arrays else ("", b"")

            def insert(index: sqlite3.Connection) -> None:
                with index:
                    index.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)
                    if file:
                        index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (file, len(data), time.time()))
                        if len(data) <= _SHORT_BYTES:
                            index.execute("INSERT OR REPLACE INTO short_files VALUES (?, ?)", (file, data))
                        index.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?)", [(self._own(key), file) for key, _ in arrays])

            self._do(insert)
        except (OSError, sqlite3.Error) as error:
            self._stop_writing(error)

    def usage(self) -> dict[str, Any]:
        """What the folder holds: `facts`, `values` with arrays, `files` and `bytes` of these, `oldest_s` and `newest_s` use (seconds since
        1970; None without files), and `limit_bytes`.

        Raises:
            NetflError: the index cannot be read.
        """
        facts, values = (self._row(f"SELECT count(*) FROM {table}")[0] for table in ("facts", "arrays"))
        files, num_bytes, oldest_s, newest_s = self._row(
            "SELECT count(*), coalesce(sum(num_bytes), 0), min(used_s), max(used_s) FROM files"
        )
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

        Raises:
            NetflError: the index cannot be read or written.
        """
        before = self.usage()
        try:
            self._make_room(limit_bytes)
            self._do(_tidy)
            known = {row[0] for row in self._do(lambda index: index.execute("SELECT file FROM files").fetchall())}
        except sqlite3.Error as error:
            raise NetflError(f"the store '{self.folder}' cannot be tidied: {error}; {_what_to_do(error)}") from None
        after = self.usage()
        strays = strays_bytes = 0
        for path in sorted((self.folder / "arrays").rglob("*.*")):
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
        """Note what was used, and make room; not on a disk that was found full."""

        def note(index: sqlite3.Connection) -> None:
            with index:
                index.executemany("UPDATE files SET used_s = ? WHERE file = ?", [(time.time(), file) for file in sorted(self._used)])

        try:
            if self._writes:
                self._do(note)
                self._make_room(self.limit_bytes)
        except (OSError, sqlite3.Error) as error:
            if _code(error) != sqlite3.SQLITE_READONLY:  # whose values were found, and whoever put some was told
                _LOG.warning("the store '%s' could not be tidied: %s", self.folder, error)
        with suppress(sqlite3.Error):
            self._index.close()

    def _row(self, query: str, *key: bytes) -> Any:
        """The row that a query finds.

        Raises:
            NetflError: the index cannot be read.
        """
        try:
            return self._do(lambda index: index.execute(query, key).fetchone())
        except (OSError, sqlite3.Error) as error:
            raise NetflError(
                f"the store '{self.folder}' cannot be read: {error}; {_what_to_do(error)}, or name another by NETFL_STORE"
            ) from None

    def _drop(self, query: str, key: bytes) -> None:
        """Forget the row of a key, which is not what was put."""

        def delete(index: sqlite3.Connection) -> None:
            with index:
                index.execute(query, (key,))

        try:
            self._do(delete)
        except (OSError, sqlite3.Error) as error:
            self._stop_writing(error)

    def _stop_writing(self, error: Exception) -> None:
        if self._writes:
            self._writes = False
            _LOG.warning("the store '%s' cannot be written any more (%s): this run keeps no further values", self.folder, error)

    def _do(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        """Work on the index; if that turns out to be damaged, on a new one."""
        try:
            return work(self._index)
        except _SAID as error:
            if not _is_damage(error):
                raise
            with suppress(sqlite3.Error):
                self._index.close()
            self._set_aside(self._identity, error)
        self._index, self._identity = self._open()
        return work(self._index)

    def _open(self) -> tuple[sqlite3.Connection, object]:
        """The index, and which file it is; a damaged one is set aside.

        Raises:
            NetflError: it is another version's.
            sqlite3.Error: it cannot be opened.
        """
        path = self.folder / "store.db"
        for attempt in range(_MOST_SET_ASIDE + 1):
            with _locked(self.folder, alone=False):
                damaged = _identity(path)
                try:
                    index, version = _open_index(path)
                    opened = _identity(path)
                    break
                except _SAID as error:
                    if not _is_damage(error) or attempt == _MOST_SET_ASIDE:
                        raise
                    found: Exception = error
            self._set_aside(damaged, found)
        if version != _VERSION:
            index.close()
            raise NetflError(
                f"the store '{self.folder}' is of version {version}, this netfl writes version {_VERSION}; "
                "delete it, or name another by NETFL_STORE"
            )
        return index, opened

    def _set_aside(self, damaged: object, error: Exception) -> None:
        """Rename a damaged index, in place of one that was damaged earlier; nothing if another process has done so."""
        path = self.folder / "store.db"
        with _locked(self.folder, alone=True):
            if damaged is None or _identity(path) != damaged:
                return
            for ending in ("-wal", "-shm", ""):
                aside = Path(f"{path}.damaged{ending}")
                try:
                    Path(f"{path}{ending}").replace(aside)
                except FileNotFoundError:
                    aside.unlink(missing_ok=True)
        _LOG.warning(
            "the index of the store '%s' is damaged (%s): it is now '%s.damaged', and what is needed of it is computed again",
            self.folder, error, path.name,
        )  # fmt: skip

    def _own(self, key: bytes) -> bytes:
        """A recipe's key on this platform."""
        return hashlib.sha256(self._mark + key).digest()

    def _path(self, file: str) -> Path:
        return self.folder / "arrays" / f"{file}.safetensors"

    def _write(self, arrays: Iterable[tuple[bytes, Mapping[str, np.ndarray]]]) -> tuple[str, bytes]:
        """One file for all arrays of one forcing, written here unless it is short; its name and bytes."""
        from safetensors.numpy import save

        data = save(
            {f"{self._own(key).hex()}/{name}": np.ascontiguousarray(array) for key, named in arrays for name, array in named.items()}
        )
        file = hashlib.sha256(data).hexdigest()
        if len(data) > _SHORT_BYTES:
            self._write_file(self._path(file), data)
            self._checked.add(file)
        return file, data

    def _write_file(self, path: Path, data: bytes) -> None:
        """Write a file so that no other process meets half of it."""
        temporary = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.part")
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _load(self, file: str, short: bytes | None, prefix: str) -> dict[str, np.ndarray]:
        """The arrays of a file whose names begin so; of one that is short, whose bytes are given, all are read for it.

        Raises:
            FileNotFoundError: it is not short, and gone.
        """
        if short is not None:
            from safetensors.numpy import load

            return {name: array for name, array in load(short).items() if name.startswith(prefix)}
        from safetensors import safe_open

        with safe_open(self._path(file), framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys() if name.startswith(prefix)}  # noqa: SIM118

    def _check(self, file: str, short: bytes | None) -> bool:
        """Whether a file's bytes, given if it is short, are those that were written; one that is damaged or gone is forgotten."""
        if short is None and file in self._checked:
            return True
        try:
            digest = hashlib.sha256(self._path(file).read_bytes() if short is None else short).hexdigest()
        except OSError:
            digest = ""
        if digest == file:
            if short is None:
                self._checked.add(file)
            return True
        try:
            self._forget([file])
        except (OSError, sqlite3.Error) as error:
            self._stop_writing(error)
        return False

    def _forget(self, files: Sequence[str]) -> None:
        """Drop files, those first that are files of their own: that makes the room which SQLite may need to write that all are gone."""
        for file in files:
            if _FILE.fullmatch(file):
                self._path(file).unlink(missing_ok=True)

        def delete(index: sqlite3.Connection) -> None:
            with index:  # one transaction, which takes few pages however many they are
                for table in ("arrays", "files", "short_files"):
                    index.executemany(f"DELETE FROM {table} WHERE file = ?", [(file,) for file in files])

        self._do(delete)

    def _make_room(self, limit_bytes: int) -> None:
        query = "SELECT file, CAST(num_bytes AS INTEGER) FROM files ORDER BY used_s, file"
        files = self._do(lambda index: index.execute(query).fetchall())
        excess_bytes, going = sum(num_bytes for _, num_bytes in files) - limit_bytes, []
        for file, num_bytes in files:
            if excess_bytes <= 0:
                break
            going.append(file)
            excess_bytes -= num_bytes
        if going:
            self._forget(going)


def _open_index(path: Path) -> tuple[sqlite3.Connection, int]:
    """The index, made if it does not exist, and its version; one of another version, or that somebody else made, is left as it is.

    One that cannot be written is opened for reading.

    SQLite waits for another process in every statement but one: of two that turn a new file to write-ahead logging at once, it refuses one
    without waiting. That one tries again.
    """
    end_s = time.monotonic() + _BUSY_S
    while True:
        index = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            version, is_new = _version_of(index)
            if version == _VERSION or is_new:
                index.execute("PRAGMA journal_mode=WAL")
                index.execute("PRAGMA synchronous=OFF")
                index.execute("PRAGMA secure_delete=OFF")
            if is_new:
                index.execute("BEGIN IMMEDIATE")
                version, is_new = _version_of(index)  # another process may have made it meanwhile
                for statement in (*_TABLES.split(";"), f"PRAGMA user_version={_VERSION}") if is_new else ():
                    index.execute(statement)
                index.commit()
                version = _VERSION if is_new else version
            if version == _VERSION:
                index.execute(_SHORT_FILES)
            return index, version
        except _SAID as error:
            index.close()
            if _code(error) in _UNWRITABLE:
                for mode in _modes(path):
                    with suppress(sqlite3.OperationalError):
                        return _open_unwritable(path, mode)
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                raise
            time.sleep(_RETRY_S)


def _modes(path: Path) -> list[str]:
    """How to read an index that cannot be written, if it is there: with its log, and without one if nothing waits in that."""
    held, waiting = (each.exists() and each.stat().st_size > 0 for each in (path, Path(f"{path}-wal")))
    if not held:
        return []
    return ["mode=ro"] if waiting else ["mode=ro", "mode=ro&immutable=1"]


def _open_unwritable(path: Path, mode: str) -> tuple[sqlite3.Connection, int]:
    """An index on a full disk, or where this user may not write: what it holds can be read; and its version."""
    index = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    try:
        index.execute("PRAGMA temp_store=MEMORY")
        version, _ = _version_of(index)
        if version == _VERSION and not index.execute("SELECT 1 FROM sqlite_master WHERE name = 'short_files'").fetchone():
            index.execute(_SHORT_FILES.replace("TABLE", "TEMP TABLE", 1))  # of an older netfl, which made none
    except _SAID:
        index.close()
        raise
    return index, version


def _tidy(index: sqlite3.Connection) -> None:
    """Give back the room of short files that have gone, and of those whose names a netfl that knew of none has forgotten."""
    with index:
        index.execute("DELETE FROM short_files WHERE file NOT IN (SELECT file FROM files)")
    free, pages = (index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if 4 * free > pages:  # it takes some ten seconds a gigabyte, in which nobody else can write
        with suppress(sqlite3.OperationalError):  # others are reading or writing, or there is no room for a copy: it will be used again
            index.execute("VACUUM")


def _version_of(index: sqlite3.Connection) -> tuple[int, bool]:
    """The version of an index, and whether it is empty and of none.

    Tables are counted first: whoever makes them gives the version with them.
    """
    tables: int = index.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version: int = index.execute("PRAGMA user_version").fetchone()[0]
    return version, not version and not tables


@contextmanager
def _locked(folder: Path, *, alone: bool) -> Iterator[None]:
    """Keep an index from being set aside while it is opened, and from being opened while it is set aside.

    Where the system or the file system locks no folders, two processes that meet damage at the same instant may set two indexes aside:
    what the second held is computed again.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - a system without POSIX locks
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _identity(path: Path) -> object:
    """Which file has a name; None for no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _code(error: Exception) -> int | None:
    """The primary code of what SQLite says; None for what Python says, as of text that is no UTF-8."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_damage(error: Exception) -> bool:
    """Whether an index is to blame. Queries are always the same: one that SQLite does not understand has met other tables than ours."""
    code = _code(error)
    return code in _DAMAGE or (code is None and isinstance(error, sqlite3.OperationalError | UnicodeDecodeError))


def _what_to_do(error: Exception) -> str:
    unwritable = _code(error) in _UNWRITABLE or (isinstance(error, OSError) and error.errno in _NO_ROOM)
    return "make room on its disk, and see that it may be written" if unwritable else "delete it"


def _checksum(key: bytes, text: bytes) -> bytes:
    return hashlib.sha256(key + text).digest()[:8]
