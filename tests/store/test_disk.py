"""Values on disk: found again, never believed when damaged, shared by processes, bounded."""

import errno
import itertools
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import netfl.store.disk
from netfl import run
from netfl.cli.commands import cli
from netfl.errors import NetflError
from netfl.store import Disk, FactForm, Function, Store, TensorForm, recipe
from tests.workloads.small import small, training_only

ROOT = Path(__file__).parents[2]
A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def array(value: float, count: int = 1000) -> dict[str, np.ndarray]:
    return {"vector": np.full(count, value, dtype=np.float32)}


def reopened(folder: Path, **settings: Any) -> Disk:
    return Disk(folder, **settings)


SHORT, LONG = 1000, 20_000  # values, of which an array file holds one: the latter is a file of its own


@pytest.mark.parametrize("count", [SHORT, LONG])
def test_facts_and_arrays_are_found_again(tmp_path: Path, count: int) -> None:
    disk = Disk(tmp_path)
    disk.put([(A, {"accuracy": 0.1 + 0.2})], [(B, array(1.5, count)), (C, {"x": np.arange(3), "y": np.eye(2)})])
    assert len(list((tmp_path / "arrays").iterdir())) == (1 if count == LONG else 0)
    for each in (disk, reopened(tmp_path)):
        assert each.fact(A) == {"accuracy": 0.1 + 0.2}
        found = each.arrays(C)
        assert found is not None
        assert {name: value.tolist() for name, value in found.items()} == {"x": [0, 1, 2], "y": [[1, 0], [0, 1]]}
        vector = (each.arrays(B) or {})["vector"]
        assert (vector.dtype, vector.flags.writeable, vector.tolist()) == (np.float32, True, [1.5] * count)
        assert each.fact(B) is None
        assert each.arrays(A) is None


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_array_file_is_not_believed(tmp_path: Path, damage: str) -> None:
    Disk(tmp_path).put([], [(A, array(1.0, LONG))])
    (file,) = (tmp_path / "arrays").rglob("*.safetensors")
    data = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "alter":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file.unlink()
    disk = Disk(tmp_path)
    assert disk.arrays(A) is None
    disk.put([], [(A, array(1.0))])
    assert Disk(tmp_path).arrays(A) is not None


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove", "number"])
def test_a_damaged_short_file_is_not_believed(tmp_path: Path, damage: str) -> None:
    disk = Disk(tmp_path)
    disk.put([], [(A, array(1.0))])
    with sqlite3.connect(tmp_path / "store.db") as index:
        ((data,),) = index.execute("SELECT data FROM short_files").fetchall()
        if damage == "remove":
            index.execute("DELETE FROM short_files")
        else:
            damaged = {"truncate": data[:100], "alter": data[:-1] + bytes([data[-1] ^ 1]), "number": 7}[damage]
            index.execute("UPDATE short_files SET data = ?", (damaged,))
    index.close()
    for each in (disk, Disk(tmp_path)):  # who wrote it, too
        assert each.arrays(A) is None
    assert disk.usage()["files"] == 0
    disk.put([], [(A, array(1.0))])
    assert Disk(tmp_path).arrays(A) is not None


def test_a_store_without_short_files_gets_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As netfl made them at first; the older netfl takes a short file for one that is gone, and forgets it."""
    Disk(tmp_path).put([], [(A, array(1.0, LONG))])
    with sqlite3.connect(tmp_path / "store.db") as index:
        index.execute("DROP TABLE short_files")
    index.close()
    disk = Disk(tmp_path)
    disk.put([], [(B, array(2.0))])
    assert disk.arrays(A) is not None
    assert disk.arrays(B) is not None
    with sqlite3.connect(tmp_path / "store.db") as index:
        index.execute("DELETE FROM files WHERE num_bytes < 10000")
        index.execute("DELETE FROM arrays WHERE file NOT IN (SELECT file FROM files)")
    index.close()
    assert disk.arrays(B) is None
    disk.collect_garbage(10**9)
    assert disk._row("SELECT count(*) FROM short_files") == (0,)
    assert caplog.text == ""


_NOTHING_WRITTEN = """
import logging, resource, sys
from pathlib import Path
from netfl.store import Disk
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # no file can grow, as on a full disk
disk = Disk(Path(sys.argv[1]))
print(disk.fact(b"a" * 32), disk.arrays(b"b" * 32) is not None, disk.arrays(b"c" * 32) is not None)
disk.put([(b"d" * 32, 2)], [])
print(disk.fact(b"d" * 32))
disk.close()
"""


@pytest.mark.parametrize("older", [False, True])
def test_a_store_on_a_full_disk_is_read(tmp_path: Path, older: bool) -> None:
    """Not even its log can be made there; what it holds is found, also by a netfl that looks for short files in a store that has none."""
    disk = Disk(tmp_path)
    disk.put([(A, 1)], [(B, array(1.0, LONG))])
    disk.put([], [(C, array(1.0))])
    if older:
        disk._index.execute("DROP TABLE short_files")
    disk.close()
    done = subprocess.run([sys.executable, "-c", _NOTHING_WRITTEN, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == f"1 True {not older}\nNone\n"
    assert done.stderr == (
        f"the store '{tmp_path}' cannot be written any more (attempt to write a readonly database): this run keeps no further values\n"
    )
    assert Disk(tmp_path).fact(A) == 1


def test_a_store_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    command = _NOTHING_WRITTEN.replace("disk = Disk", "from netfl.errors import NetflError\ntry: disk = Disk").replace(
        'print(disk.fact(b"a"', 'except NetflError as error: sys.exit(f"{error}")\nprint(disk.fact(b"a"'
    )
    done = subprocess.run([sys.executable, "-c", command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert re.fullmatch(
        rf"the store '{tmp_path}' cannot be used: .*; make room on its disk, and see that it may be written, or .*\n", done.stderr
    )


def test_a_store_that_an_older_netfl_makes_at_the_same_moment_has_short_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, looks = netfl.store.disk._version_of, []

    def overtaken(index: sqlite3.Connection) -> tuple[int, bool]:
        found = look(index)
        if not looks:
            other = sqlite3.connect(tmp_path / "store.db")
            other.execute("PRAGMA journal_mode=WAL")
            other.executescript(f"{netfl.store.disk._TABLES} PRAGMA user_version=1;")
            other.close()
        looks.append(found)
        return found

    monkeypatch.setattr(netfl.store.disk, "_version_of", overtaken)
    disk = Disk(tmp_path)
    disk.put([], [(A, array(1.0))])
    assert disk.arrays(A) is not None
    assert (looks, caplog.text) == ([(0, True), (1, False)], "")


def test_collecting_garbage_gives_the_room_of_short_files_back(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(100):
        disk.put([], [(number.to_bytes(32, "big"), array(number, 10_000))])
    assert disk.collect_garbage(1_000_000)[0] == 76  # 24 files of 40,0xx bytes stay
    disk.close()
    assert 960_000 < (tmp_path / "store.db").stat().st_size < 1_200_000


def test_an_altered_fact_is_not_believed(tmp_path: Path) -> None:
    Disk(tmp_path).put([(A, 0.25)], [])
    with sqlite3.connect(tmp_path / "store.db") as index:
        index.execute("UPDATE facts SET value = '0.75'")
    assert Disk(tmp_path).fact(A) is None


@pytest.mark.parametrize("count", [SHORT, LONG])
def test_the_least_recently_used_files_go_first(tmp_path: Path, count: int) -> None:
    disk = Disk(tmp_path)
    for key, value in ((A, 1.0), (B, 2.0), (C, 3.0)):
        disk.put([], [(key, array(value, count))])
    disk.close()
    with sqlite3.connect(tmp_path / "store.db") as index:  # A was used last, B first
        for key_order, (file,) in enumerate(index.execute("SELECT file FROM files ORDER BY file").fetchall()):
            index.execute("UPDATE files SET used_s = ? WHERE file = ?", (1000.0 + key_order, file))
    disk = Disk(tmp_path, limit_bytes=9 * count)  # two of three files of a little more than 4 bytes a value
    assert disk.arrays(A) is not None
    disk.close()
    disk = Disk(tmp_path)
    kept = [key for key in (A, B, C) if disk.arrays(key) is not None]
    assert A in kept
    assert len(kept) == 2
    assert len(list((tmp_path / "arrays").rglob("*.safetensors"))) == (2 if count == LONG else 0)
    assert disk._row("SELECT count(*) FROM short_files") == (0 if count == LONG else 2,)


def test_the_limit_is_that_of_the_environment_where_none_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Disk(tmp_path).usage()["limit_bytes"] == 10 * 1024**3
    for text, limit_bytes in (("2 GB", 2 * 10**9), ("1.5MB", 1_500_000)):
        monkeypatch.setenv("NETFL_STORE_LIMIT", text)
        assert Disk(tmp_path).usage()["limit_bytes"] == limit_bytes
        assert Disk(tmp_path, limit_bytes=7).usage()["limit_bytes"] == 7
    monkeypatch.setenv("NETFL_STORE_LIMIT", "much")
    with pytest.raises(NetflError, match=r"NETFL_STORE_LIMIT: .*much"):
        Disk(tmp_path)


def test_a_store_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    for version in (99, 0, -1):
        folder = tmp_path / str(version)
        Disk(folder).close()
        with sqlite3.connect(folder / "store.db") as index:
            index.execute(f"PRAGMA user_version={version}")
        index.close()
        before = (folder / "store.db").read_bytes()
        with pytest.raises(NetflError, match=rf"version {version},.*NETFL_STORE"):
            Disk(folder)
        assert (folder / "store.db").read_bytes() == before
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "store.db").touch()  # as SQLite leaves a database that nothing was written to
    Disk(tmp_path / "new").put([(A, 1)], [])
    assert Disk(tmp_path / "new").fact(A) == 1
    (tmp_path / "file").write_text("a file")
    with pytest.raises(NetflError, match="cannot be used"):
        Disk(tmp_path / "file")


def full_of_facts(folder: Path) -> bytes:
    """A store with one array and more facts than a page holds; its index's bytes."""
    disk = Disk(folder)
    disk.put([(number.to_bytes(32, "big"), f"a value {number}") for number in range(300)], [(A, array(1.0, LONG))])
    disk.close()
    return (folder / "store.db").read_bytes()


@pytest.mark.parametrize(
    "damage", ["no database", "truncated", "half a page", "a page of zeros", "all pages but the first", "schema", "no UTF-8"]
)
def test_a_damaged_index_is_set_aside_and_what_it_held_computed_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = full_of_facts(tmp_path)
    damaged = {
        "no database": b"this is no database at all" * 100,
        "truncated": data[: len(data) // 2],
        "half a page": data[:2048],
        "a page of zeros": data[:4096] + bytes(4096) + data[8192:],
        "all pages but the first": data[:4096] + b"\xa5" * (len(data) - 4096),
        "schema": data.replace(b"TABLE facts", b"TABLE fakts").replace(b"tablefacts", b"tablefakts"),
        "no UTF-8": data.replace(b"CREATE TABLE facts", b"CREATE \x89TABL facts"),  # which SQLite quotes in what it says
    }[damage]
    (tmp_path / "store.db").write_bytes(damaged)
    (tmp_path / "store.db.damaged").write_bytes(b"an older one")
    disk = Disk(tmp_path)
    found = [disk.fact(number.to_bytes(32, "big")) for number in range(300)]
    assert all(fact in (None, f"a value {number}") for number, fact in enumerate(found))
    disk.put([(B, 2)], [])
    assert disk.fact(B) == 2
    disk.close()
    assert caplog.text.count("is damaged") == 1
    assert (tmp_path / "store.db.damaged").read_bytes() == damaged
    again = Disk(tmp_path)
    assert again.fact(B) == 2
    again.usage()
    again.close()
    assert caplog.text.count("is damaged") == 1


def test_damage_that_only_a_write_meets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full_of_facts(tmp_path)
    disk = Disk(tmp_path)
    disk._index.execute("DROP TABLE facts")
    disk.put([(B, 2)], [])
    assert "is damaged" in caplog.text
    assert Disk(tmp_path).fact(B) == 2


def test_who_has_a_damaged_index_open_does_not_touch_the_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full_of_facts(tmp_path)
    first, second, third = Disk(tmp_path), Disk(tmp_path), Disk(tmp_path)
    with sqlite3.connect(tmp_path / "store.db") as index:
        index.execute("DROP TABLE facts")
    index.close()
    assert first.fact(A) is None
    first.put([(A, 1)], [])
    third.close()  # of the old one: it must not take the new one's log away
    assert second.fact(A) == 1  # met the damage too, and found the new one
    second.put([(B, 2)], [])
    assert caplog.text.count("is damaged") == 1
    assert [first.fact(B), Disk(tmp_path).fact(A), Disk(tmp_path).fact(B)] == [2, 1, 2]
    first.close()
    second.close()
    with sqlite3.connect(tmp_path / "store.db") as index:
        assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    index.close()


OLD_HOLDER = """
import sys
from pathlib import Path
from netfl.store import Disk
disk = Disk(Path(sys.argv[1]))
disk.put([(b"a" * 32, 1)], [])
print("open", flush=True)
sys.stdin.readline()
disk.put([(b"c" * 32, 3)], [])
disk.close()
"""


def test_another_process_goes_on_with_an_index_that_was_set_aside(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", OLD_HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    disk = Disk(tmp_path)
    disk._set_aside(disk._identity, sqlite3.DatabaseError("as if"))
    new = Disk(tmp_path)
    new.put([(B, 2)], [])
    other.communicate("\n", timeout=60)
    assert other.returncode == 0
    new.put([(A, 4)], [])
    seen = Disk(tmp_path)
    assert [seen.fact(key) for key in (A, B, C)] == [4, 2, None]
    with sqlite3.connect(tmp_path / "store.db.damaged") as index:
        assert index.execute("SELECT count(*) FROM facts").fetchone() == (2,)
    index.close()


def test_array_files_whose_index_is_gone_are_collected(tmp_path: Path) -> None:
    full_of_facts(tmp_path)
    (tmp_path / "store.db").write_bytes(b"nothing")
    (file,) = (tmp_path / "arrays").rglob("*.safetensors")
    disk = Disk(tmp_path)
    assert disk.arrays(A) is None
    assert disk.collect_garbage(0) == (0, 0)  # it is new: another process may be about to put it into the index
    os.utime(file, (0, 0))
    assert disk.collect_garbage(0)[0] == 1
    assert not file.exists()


def test_a_full_disk_ends_the_keeping_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk(tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    disk.put([], [(A, array(1.0, LONG))])
    assert "No space left" in caplog.text
    assert not list(tmp_path.rglob("*.part"))
    disk.put([(B, 1)], [])
    assert disk.fact(B) is None
    disk.close()
    assert len(caplog.records) == 1


def test_a_store_that_cannot_be_written_is_told_once_on_stderr_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = netfl.store.disk._open_index

    def unwritable(path: Path) -> tuple[sqlite3.Connection, int]:
        index, version = begin(path)
        index.execute("PRAGMA query_only=ON")
        return index, version

    monkeypatch.setattr(netfl.store.disk, "_open_index", unwritable)
    monkeypatch.setenv("NETFL_STORE", str(tmp_path / "store"))
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps(training_only(training__rounds=1)))  # its facts are written at the end, when the log is closed
    done = CliRunner().invoke(cli, ["run", str(scenario), "-q", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert done.stderr == (
        f"the store '{tmp_path / 'store'}' cannot be written any more (attempt to write a readonly database): this run keeps no further values\n"
    )


def test_another_platform_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(tmp_path).put([(A, 1)], [])
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert Disk(tmp_path).fact(A) is None


def slow(seconds: float) -> Function:
    """A tensor that is worth keeping."""

    def compute(calls: Any) -> list[np.ndarray]:
        time.sleep(seconds)
        return [np.full(10, value, dtype=np.float32) for (value,) in calls]

    return Function("slow", 1, compute, TensorForm(lambda value: {"it": value}, lambda named: named["it"]))


def test_a_dear_tensor_is_kept_and_a_cheap_one_is_not(tmp_path: Path) -> None:
    for seconds, kept in ((0.2, True), (0.0, False)):
        folder = tmp_path / str(seconds)
        function = slow(seconds)
        store = Store(disk=Disk(folder))
        store.force(recipe(function, 7))
        store.close()
        again = Store(disk=Disk(folder))
        assert again.force(recipe(function, 7)).tolist() == [7.0] * 10
        assert again.computed["slow"] == (0 if kept else 1)


def test_a_tensor_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netfl.store.store._WORTH", 0)
    function, disk, written = slow(0.0), Disk(tmp_path), []
    monkeypatch.setattr(disk, "put", lambda _, arrays: written.append([key for key, _ in arrays]))
    store, made = Store(disk=disk), [recipe(function, number) for number in range(3)]
    for each in made:
        store.force(each)
    assert written == [[each.key] for each in made]


def test_tensors_that_nobody_has_any_more_do_not_wait_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netfl.store.store._WRITE_S", 0.0)
    monkeypatch.setattr("netfl.store.store._WRITE_BYTES_PER_S", 1e-9)  # a write is thought of each time, and never worth it
    function, store = slow(0.0), Store(disk=Disk(tmp_path))
    for number in range(50):
        store.force(recipe(function, number))
    assert len(store._resting) <= 1


def test_facts_end_the_walk(tmp_path: Path) -> None:
    leaf = Function("leaf", 1, lambda calls: [value for (value,) in calls])
    double = Function("double", 1, lambda calls: [2 * value for (value,) in calls], FactForm(int, int))
    for computed in (1, 0):
        store = Store(disk=Disk(tmp_path))
        assert store.force(recipe(double, recipe(leaf, 21))) == 42
        assert (store.computed["leaf"], store.computed["double"]) == (computed, computed)
        store.close()


def hammer(folder: str, seed: int, seconds: float, failures: Any) -> None:
    """Write and read random entries, checking every one."""
    generator = np.random.default_rng(seed)
    end = time.monotonic() + seconds
    disk = Disk(Path(folder), limit_bytes=400_000)
    while time.monotonic() < end:
        numbers = generator.integers(0, 200, 8).tolist()
        keys, count = [number.to_bytes(32, "big") for number in numbers], int(generator.choice([500, 3000]))  # short and long files
        disk.put(
            [(key, number) for key, number in zip(keys, numbers, strict=True)],
            [(key, array(number, count)) for key, number in zip(keys, numbers, strict=True)],
        )
        for key, number in zip(keys, numbers, strict=True):
            found = disk.arrays(key)
            if disk.fact(key) != number or (found is not None and not (found["vector"] == number).all()):
                failures.append((seed, number))
        if generator.random() < 0.05:
            disk.close()
            disk = Disk(Path(folder), limit_bytes=400_000)
    disk.close()


def test_two_processes_hammering_one_store_lose_and_corrupt_nothing(tmp_path: Path) -> None:
    seconds = float(os.environ.get("NETFL_HAMMER_S", "4"))
    context = multiprocessing.get_context("forkserver")
    with context.Manager() as manager:
        failures = manager.list()
        workers = [context.Process(target=hammer, args=(str(tmp_path), seed, seconds, failures)) for seed in (1, 2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert list(failures) == []
    disk = Disk(tmp_path)
    for number in range(200):
        assert disk.fact(number.to_bytes(32, "big")) in (number, None)
    assert sum(disk.fact(number.to_bytes(32, "big")) is not None for number in range(200)) > 20


def test_many_that_make_one_store_at_once_all_get_it(tmp_path: Path) -> None:
    """SQLite refuses one of two that turn a new file to write-ahead logging together; each opening must try again."""
    failures: list[str] = []

    def open_and_put(folder: Path, barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            disk = Disk(folder)
            disk.put([(bytes(32), 1)], [])
            disk.close()
        except NetflError as error:
            failures.append(str(error))

    for attempt in range(150):  # about one in a hundred was refused
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=open_and_put, args=(tmp_path / str(attempt), barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_cold_and_warm_runs_are_equal_and_the_warm_one_trains_nobody() -> None:
    cold, warm = run(small()).metrics, run(small()).metrics
    assert cold["trace_digest"] == warm["trace_digest"]
    assert {name: value for name, value in cold.items() if name not in ("host_s", "work")} == {
        name: value for name, value in warm.items() if name not in ("host_s", "work")
    }
    for found in (cold, warm):
        assert found["work"].pop("planner_s").keys() == {"serving"}
    assert cold["work"] == {"trained_clients": 9, "reused_clients": 0, "speculated_clients": 0}
    assert warm["work"] == {"trained_clients": 0, "reused_clients": 9, "speculated_clients": 0}


def test_lengths_that_depend_on_the_data_are_facts_too() -> None:
    scenario = training_only(training__uplink=[{"kind": "quantize"}, {"kind": "zstd"}], training__downlink=[{"kind": "zstd"}])
    cold, warm = run(scenario).metrics, run(scenario).metrics
    assert cold["trace_digest"] == warm["trace_digest"]
    assert warm["work"]["trained_clients"] == 0


def test_a_changed_network_trains_nobody_again_while_the_same_updates_arrive() -> None:
    run(training_only(training__clients_per_round=4))
    scenario = training_only(training__clients_per_round=4)
    scenario["topology"]["links"]["trunk"]["rate"] = "3 Mbit/s"
    assert run(scenario).metrics["work"] == {"trained_clients": 0, "reused_clients": 12, "speculated_clients": 0}


_PROBE = """
import json, sys
import netfl.store.disk
from netfl import run
metrics = run(json.loads(sys.argv[1])).metrics
print(metrics["trace_digest"], sorted({"torch", "sklearn"} & sys.modules.keys()))
"""


def test_a_run_whose_values_are_all_known_never_touches_a_tensor() -> None:
    scenario = json.dumps(small())
    lines = [
        subprocess.run([sys.executable, "-c", _PROBE, scenario], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split(" ", 1)
        for _ in range(2)
    ]
    assert lines[0][0] == lines[1][0]
    assert "torch" in lines[0][1]
    assert lines[1][1].strip() == "[]"


_KILLED = """
import json, os, signal, sys
import netfl.store.disk
from netfl import run
from netfl.store import store

if sys.argv[2] == "all":
    store._WORTH = 0  # every forcing is written
run(json.loads(sys.argv[1]), on_progress=lambda progress: progress.round < 12 or os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("kept", ["all", "what is worth it"])
def test_a_killed_run_started_again_finds_what_it_had_finished(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = training_only(training__rounds=20, training__clients_per_round=4)
    command = [sys.executable, "-c", _KILLED, json.dumps(scenario), kept]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    again = run(scenario).metrics
    if kept == "all":  # the twelve rounds are facts, and the twelfth model is on disk
        assert again["work"] == {"trained_clients": 8 * 4, "reused_clients": 12 * 4, "speculated_clients": 0}
    monkeypatch.setenv("NETFL_STORE", str(tmp_path / "another"))
    assert run(scenario).metrics["trace_digest"] == again["trace_digest"]


def test_a_new_training_looks_for_another_process_ahead_of_it_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rounds that nobody trained before, then only every sixteenth is looked for; after its end none is trained."""
    monkeypatch.setattr("netfl.store.store._WORTH", 0)
    scenario = training_only(training__rounds=20, training__clients_per_round=4)
    ahead = tmp_path / "ahead"
    expected = run(scenario, store=Store(disk=Disk(ahead))).metrics
    own = Store(disk=Disk(tmp_path / "own"))

    def overtaken(progress: Any) -> None:
        if progress.round == 10:
            with sqlite3.connect(tmp_path / "own" / "store.db") as index:
                index.execute("ATTACH ? AS ahead", (str(ahead / "store.db"),))
                index.execute("INSERT OR REPLACE INTO facts SELECT * FROM ahead.facts")
            index.close()

    found = run(scenario, store=own, on_progress=overtaken).metrics
    assert found["trace_digest"] == expected["trace_digest"]
    assert found["work"] == {"trained_clients": 15 * 4, "reused_clients": 5 * 4, "speculated_clients": 0}


@pytest.mark.parametrize("case", ["hierarchical", "selective"])
def test_rounds_without_updates_do_not_count_as_new(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hubs that have hubs alone below them, and rounds that everyone skips: a run that finds everything trains nobody."""
    monkeypatch.setattr("netfl.store.store._WORTH", 0)
    changes: dict[str, Any] = {
        "training__selective": {"margin": 0.3, "on_skip": "reuse_stale"},
        "training__clients_per_round": 2,
        "seed": 9,
    }
    if case == "hierarchical":
        devices, links = {"cloud": {"profile": "edge-server"}}, {}
        for number in range(1, 10):  # nine hubs between gateways and cloud, each with one call a round
            path = [f"node-{number}", f"gateway-{number}", f"edge-{number}", "cloud"]
            devices.update({name: {"profile": "mini-pc"} for name in path[:-1]})
            links.update({"-".join(ends): {"between": [*ends], "rate": "1 Mbit/s", "latency": "1 ms"} for ends in itertools.pairwise(path)})
        changes = {
            "topology": {"schema": 1, "name": "deep", "devices": devices, "links": links}, "training__kind": "hierarchical", "training__server": "cloud",
            "training__clients": ["node-*"], "training__levels": [{"devices": ["gateway-*"]}, {"devices": ["edge-*"]}],
        }  # fmt: skip
    scenario = training_only(**changes, data__partition="iid", training__rounds=30)
    if case == "hierarchical":
        del scenario["workloads"]["training"]["clients_per_round"]
    works = [run(scenario, store=Store(disk=Disk(tmp_path))).metrics["work"] for _ in range(2)]
    assert works[0]["trained_clients"] > 0
    assert works[1]["trained_clients"] == 0


def test_what_is_computed_beside_is_new_and_nothing_else_is(tmp_path: Path) -> None:
    """Of two facts of one dataset, one that is known is found though the other is not, and the dataset neither."""
    calls: list[str] = []

    def made(name: str, form: Any = None) -> Function:
        def run_all(batch: Any) -> list[float]:
            calls.extend([name] * len(batch))
            return [float(value) for value, *_ in batch]

        return Function(name, 1, run_all, form)

    fact = FactForm(float, float)
    data, accuracy, later = made("data"), made("accuracy", fact), made("later", fact)

    def facts() -> list[Any]:
        read = recipe(data, 1)
        return [recipe(accuracy, value, read) for value in (2, 3)]

    first = Store(disk=Disk(tmp_path))
    first.force(facts()[1])
    first.close()
    calls.clear()
    second, wanted = Store(disk=Disk(tmp_path)), facts()
    assert second.force_all(wanted, beside=[recipe(later, wanted[0], wanted[1])]) == [2, 3]
    assert calls == ["data", "accuracy", "later"]
    second.close()
    calls.clear()
    assert Store(disk=Disk(tmp_path)).force_all(facts(), beside=[recipe(later, 9)]) == [2, 3]
    assert calls == []
