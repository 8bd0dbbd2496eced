"""Local training of many clients: netfl against a plain PyTorch loop, pfl-research, FedJAX and Flower.

    python benchmarks/training.py [--json] [--pairs N] [--cases NAME,...] [--peers [FOLDER]] [--tables rounds,whole,store,paths]

Table `rounds`: a case is one steady round: the `fit` of its clients and the `aggregate` of what they made, without the event loop.
netfl, the plain loop and the peers run in turns, several rounds each (Flower three at most) after half a second of rounds that are not timed, which
find caches full of the others' data and worker processes asleep. What a peer has started beside its own process is stopped while it is not its turn
(SIGSTOP), because Ray works for itself while Flower waits. Figures are seconds of wall time a round, medians over the turns, and the
ratio is the median of the turns' ratios (above 1 where netfl is faster). One thread, unless the case says that
two may work: netfl then has one worker process beside its own, FedJAX two cores, Flower two actors (it has them always); the plain
loop and pfl have one. The plain loop is what a user would write: load_state_dict, torch.optim.SGD, cross_entropy, backward, sliced
batches, a weighted mean of state dicts. It gets its shuffles for nothing; netfl and FedJAX draw their own.

Peers run from virtual environments of their own, which `--peers` makes in a folder (a cache folder by default) by pip from the
package index, once; `requirements` below says what is installed. A peer that is absent is said with the reason. That takes minutes; with
the environments there, all tables but `paths` take about five minutes on an idle machine of two cores.

Table `whole`: whole rounds by `netfl.run` of a star of devices, with the simulated network, the trace and the cohort's selection, but
without evaluation; the difference of a long and a short run, divided by the rounds between. The baseline is the plain loop over the
same clients and shards.

Table `store`: what the store costs in a cold run by `netfl.run` with a store on disk: the time in its methods without the functions
that it computes, and the making of recipes, as a share of the whole run.

Table `paths`: small networks that are no chains, by netfl and by the plain loop, and by `torch.func.vmap` of `functional_call`
(equal shards of 100 samples for ten clients; vmap gets its parameters stacked and its batches cut).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training_case
from torch.nn import functional

import netfl
from netfl.learning.aggregators import Contributions, Mean
from netfl.learning.data import Digits
from netfl.learning.models import initial, load_vector, to_vector
from netfl.learning.partition import Dirichlet
from netfl.learning.paths import path_of
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.randomness import Streams
from netfl.store import Disk, Recipe, Store

HERE = Path(__file__).resolve().parent
STREAMS = Streams(seed=1)
SGD = Sgd(learning_rate=0.1, epochs=1, batch_size=10)

WARM_S = 0.5
"""Of rounds that are not timed, before each turn of everybody."""
SETTLING_S = 1.0
"""From the continuation of a peer's processes to its turn. (Measured, Flower on mlp100: 0.38 s a round without, 0.245 s with one or three
seconds, 0.24 s if they are never stopped.)"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A round of `per_round` of `num_clients` clients; `rounds` of them a turn."""

    name: str
    model: training_case.Network
    num_clients: int
    per_round: int
    processes: int
    rounds: int


CASES = [
    Case("mlp100", training_case.Network("mlp"), 100, 10, 1, 40),
    Case("mlp1000", training_case.Network("mlp"), 1000, 100, 1, 10),
    Case("cnn100", training_case.Network("cnn"), 100, 10, 1, 20),
    Case("cnn1000", training_case.Network("cnn"), 1000, 100, 2, 5),
    Case("lenet", training_case.Network("lenet"), 100, 10, 2, 3),
]


@dataclass(frozen=True)
class Peer:
    """Another simulator: what pip installs for it, its side of the wire, and the most rounds that it gets a turn."""

    name: str
    requirements: tuple[str, ...]
    script: str
    most_rounds: int = 40


TORCH = "torch>=2.6,<2.14"
PEERS = [
    Peer("pfl", ("pfl==0.6.0", TORCH), "training_pfl.py"),
    Peer("FedJAX", ("fedjax==0.0.17",), "training_fedjax.py"),
    Peer("Flower", ("flwr[simulation]==1.41.0", TORCH), "training_flower.py", most_rounds=3),
]


def shards_of(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every client's samples: digits for the small networks, 60,000 rows of noise for LeNet.

    With more clients than 100, digits are drawn with replacement so that shards keep their mean length.
    """
    if case.model.kind == "lenet":
        rng = STREAMS.generator("rows")
        inputs, labels = rng.random((60_000, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, 60_000)
    else:
        data = Digits().load(STREAMS.stream("data"))
        samples = np.arange(len(data.train_labels))
        if case.num_clients > 100:
            samples = STREAMS.generator("samples").integers(0, len(samples), len(samples) * case.num_clients // 100)
        inputs, labels = data.train_inputs[samples], data.train_labels[samples]
    parts = Dirichlet(alpha=0.5).split(labels, case.num_clients, 10, STREAMS.stream("partition"))
    return [(inputs[part], labels[part]) for part in parts]


def jobs_of(case: Case) -> list[FitJob]:
    """One round's jobs."""
    shards = shards_of(case)
    chosen = np.sort(STREAMS.generator("round").choice(case.num_clients, case.per_round, replace=False))
    start = initial(case.model, shards[0][0].shape[1:], 10, STREAMS.stream("model"))
    return [FitJob(start, *shards[client], STREAMS.stream("fit", f"client-{client}", 1)) for client in chosen]


def with_netfl(case: Case, jobs: Sequence[FitJob]) -> np.ndarray:
    """A round by netfl."""
    results = fit(SGD, case.model, jobs[0].inputs.shape[1:], 10, jobs, workers=case.processes)
    updates = [result.model - job.start for job, result in zip(jobs, results, strict=True)]
    contributions = Contributions(
        updates=updates,
        num_samples=[result.num_samples for result in results],
        steps=[result.num_steps for result in results],
        num_clients=case.num_clients,
    )
    return Mean().aggregate(jobs[0].start, {}, contributions).model


def with_plain_loop(module: torch.nn.Module, jobs: Sequence[FitJob], orders: Sequence[np.ndarray]) -> np.ndarray:
    """A round by a plain PyTorch loop, from samples that are already tensors."""
    load_vector(module, jobs[0].start)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    total = {name: torch.zeros_like(value) for name, value in start.items()}
    num_samples = sum(len(job.labels) for job in jobs)
    for job, order in zip(jobs, orders, strict=True):
        module.load_state_dict(start)
        optimizer = torch.optim.SGD(module.parameters(), lr=SGD.learning_rate)
        inputs, labels = torch.from_numpy(job.inputs)[order], torch.from_numpy(job.labels)[order]
        for begin in range(0, len(labels), SGD.batch_size):
            optimizer.zero_grad()
            logits = module(inputs[begin : begin + SGD.batch_size])
            functional.cross_entropy(logits, labels[begin : begin + SGD.batch_size]).backward()
            optimizer.step()
        for name, value in module.state_dict().items():
            total[name] += value * (len(labels) / num_samples)
    module.load_state_dict(total)
    return to_vector(module)


def timed(run: Callable[[], Any], count: int) -> float:
    """Seconds of wall time a call."""
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) / count


def settled(seconds: Callable[[int], float], count: int) -> float:
    """Seconds a round of so many, after `WARM_S` of rounds that do not count.

    Args:
        seconds: runs so many rounds; how long one took.
        count: how many to time.
    """
    once = seconds(1)
    if once < WARM_S:
        seconds(math.ceil(WARM_S / once))
    return seconds(count)


# --- peers ----------------------------------------------------------------------------------------------------------------


def installed(peer: Peer, folder: Path) -> Path:
    """The Python of a peer's environment, which is made if it is not there.

    Raises:
        OSError: pip could not install it.
    """
    home = folder / f"{peer.name.lower()}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = home / "bin" / "python"
    if not (home / "done").exists():
        print(f"installing {peer.name} into {home}", file=sys.stderr, flush=True)
        venv.EnvBuilder(with_pip=True, clear=True).create(home)
        done = subprocess.run([python, "-m", "pip", "install", "-q", *peer.requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"pip: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        (home / "done").touch()
    return python


def descendants(ancestor: int) -> set[int]:
    """All processes that descend from one, whatever session they are in (from /proc; elsewhere none are found)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    family = {ancestor}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    return family - {ancestor}


class Running:
    """A peer at work on a case, in its own process and those that descend from it, which are stopped unless it is its turn.

    Its own waits for an order and goes on waiting: the loops in Flower's that look for messages every tenth of a second would all
    begin anew at one instant. (Measured: rounds of 0.2 to 0.3 s took 0.4 s then.)
    """

    def __init__(self, python: Path, script: str, case_path: Path) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, HERE / script, case_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.answer()
        self._signal(signal.SIGSTOP)

    def answer(self) -> Row:
        """What it says next.

        Raises:
            OSError: it ended instead.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("#"):
                answer: Row = json.loads(line[1:])
                if "error" in answer:
                    raise OSError(answer["error"])
                return answer
        self.log.seek(0)
        raise OSError((self.log.read().strip().splitlines() or ["it ended without a word"])[-1])

    def seconds(self, count: int) -> float:
        """Wall time a round of so many."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return float(self.answer()["seconds"])

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Its turn: within, its processes run. They get `SETTLING_S` to catch up with themselves."""
        self._signal(signal.SIGCONT)
        try:
            time.sleep(SETTLING_S)
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, which: signal.Signals) -> None:
        """Send it to all that descend from the process, those too that start meanwhile."""
        told: set[int] = set()
        while new := descendants(self.process.pid) - told:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, which)
            told |= new

    def end(self) -> None:
        """Let it go, and what it leaves behind: Ray's agents work on for a while."""
        family = descendants(self.process.pid)
        self._signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def round_rows(case: Case, pairs: int, peers: Path | None) -> list[Row]:
    """A case against the plain loop and every peer."""
    jobs = jobs_of(case)
    module = training_case.module(case.model.kind)
    orders = [torch.from_numpy(np.random.default_rng(1).permutation(len(job.labels))) for job in jobs]
    ours, loop = functools.partial(with_netfl, case, jobs), functools.partial(with_plain_loop, module, jobs, orders)
    difference = abs(ours() - loop()).max()
    assert difference < 1, f"{case.name}: ends {difference} apart"  # other shuffles, the same task
    absent: dict[str, str] = {}
    running: dict[str, Running] = {}
    rounds = {peer.name: min(case.rounds, peer.most_rounds) for peer in PEERS}
    times: dict[str, list[float]] = {"netfl": [], "plain PyTorch loop": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        training_case.save(path, case.model.kind, [(job.inputs, job.labels) for job in jobs], case.processes)
        try:
            for peer in PEERS:
                if peers is None:
                    absent[peer.name] = "run with --peers to install it"
                    continue
                try:
                    running[peer.name] = Running(installed(peer, peers), peer.script, path)
                    times[peer.name] = []
                except OSError as error:
                    absent[peer.name] = str(error)
            ours()
            for _ in range(pairs):
                times["netfl"].append(settled(functools.partial(timed, ours), case.rounds))
                times["plain PyTorch loop"].append(settled(functools.partial(timed, loop), case.rounds))
                for name, peer_running in list(running.items()):
                    try:
                        with peer_running.turn():
                            times[name].append(settled(peer_running.seconds, rounds[name]))
                    except OSError as error:
                        absent[name] = str(error)
                        del running[name], times[name]
        finally:
            for peer_running in running.values():
                peer_running.end()
    name = case.name + (f", {case.processes} processes" if case.processes > 1 else "")
    return [*(compared(name, each, times["netfl"], times[each]) for each in times if each != "netfl"), *missing(name, absent)]


def compared(case: str, baseline: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """One row."""
    return {
        "case": case,
        "baseline": baseline,
        "ratio": statistics.median(their / our for our, their in zip(ours, theirs, strict=True)),
        "netfl_s": statistics.median(ours),
        "baseline_s": statistics.median(theirs),
    }


def missing(case: str, absent: dict[str, str]) -> list[Row]:
    """Rows of baselines that could not run."""
    return [
        {"case": case, "baseline": f"{name}: absent ({why})", "ratio": None, "netfl_s": None, "baseline_s": None}
        for name, why in absent.items()
    ]


# --- whole rounds ---------------------------------------------------------------------------------------------------------


MODELS = {"mlp": {"kind": "mlp", "hidden": [64]}, "cnn": {"kind": "cnn", "channels": [8, 16]}, "lenet": {"kind": "lenet"}}


def scenario_of(case: Case, data: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The case as a scenario: devices of 10 Mbit/s and 10 ms around a server, models sent as they are."""
    nodes = f"node-{{1..{case.num_clients}}}"
    return {
        "schema": 1,
        "name": case.name,
        "seed": 1,
        "topology": {
            "schema": 1,
            "name": "star",
            "devices": {"server": {"profile": "edge-server", "tier": "cloud"}, nodes: {"profile": "esp32-s3"}},
            "links": {f"{nodes}-link": {"between": [nodes, "server"], "rate": "10 Mbit/s", "latency": "10 ms"}},
        },
        "data": {"source": data, "partition": {"kind": "dirichlet", "alpha": 0.5}},
        "model": MODELS[case.model.kind],
        "workloads": {
            "training": {
                "kind": "synchronous",
                "rounds": rounds,
                "clients_per_round": case.per_round,
                "evaluate_every": 10**6,
                "trainer": {"kind": "sgd", "epochs": 1, "batch_size": 10, "learning_rate": 0.1},
            }
        },
    }


def written(case: Case, folder: Path) -> Path:
    """The case's samples as a file that netfl reads."""
    inputs, labels = (np.concatenate(parts) for parts in zip(*shards_of(case), strict=True))
    np.savez(folder / "samples.npz", train_inputs=inputs, train_labels=labels, test_inputs=inputs[:100], test_labels=labels[:100])
    return folder / "samples.npz"


def whole_rows(case: Case, pairs: int) -> list[Row]:
    """Whole rounds of netfl against the plain loop."""
    few, many = (10, 210) if case.num_clients <= 100 else (4, 44)
    jobs = jobs_of(case)
    module = training_case.module(case.model.kind)
    orders = [torch.from_numpy(np.random.default_rng(1).permutation(len(job.labels))) for job in jobs]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = written(case, Path(folder))
        netfl.run(scenario_of(case, {"kind": "npz", "path": str(path)}, few), store=Store())  # what is imported once is imported
        for _ in range(pairs):
            seconds = []
            for rounds in (few, many):
                begin = time.perf_counter()
                done = netfl.run(scenario_of(case, {"kind": "npz", "path": str(path)}, rounds), store=Store())
                seconds.append(time.perf_counter() - begin)
                assert done.metrics["work"]["trained_clients"] == rounds * case.per_round
            ours.append((seconds[1] - seconds[0]) / (many - few))
            theirs.append(timed(lambda: with_plain_loop(module, jobs, orders), case.rounds))
    return [compared(f"{case.name}, whole rounds", "plain PyTorch loop", ours, theirs)]


def process_rows(case: Case) -> list[Row]:
    """Fifty rounds by the command, from its start to its end, in seconds of processor time; beside it the import of torch alone.

    The median of three, after one that leaves the bytecode that an installed package has.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        path.write_text(json.dumps(scenario_of(case, {"kind": "digits"}, 50)))
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"NETFL_STORE": f"{folder}/store", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}

        def processor_s(*arguments: str) -> float:
            for made in ("store", "run"):
                shutil.rmtree(Path(folder) / made, ignore_errors=True)
            before = os.times()
            subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
            after = os.times()
            return after.children_user + after.children_system - before.children_user - before.children_system

        commands = {"the command": ("-m", "netfl", "run", str(path), "-q", "-o", f"{folder}/run"), "torch": ("-c", "import torch")}
        times = [{name: processor_s(*command) for name, command in commands.items()} for _ in range(4)][1:]
    seconds, floor = (statistics.median([each[name] for each in times]) for name in commands)
    baseline = f"none (3 s is the target; figures are processor time, {floor:.1f} s of it the import of torch)"
    return [{"case": f"{case.name}, 50 rounds from a shell", "baseline": baseline, "ratio": None, "netfl_s": seconds, "baseline_s": None}]


# --- the store ------------------------------------------------------------------------------------------------------------


class Timed(Store):
    """A store that knows how long its caller waited for it."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk=disk)
        self.called_s = 0.0
        self._depth = 0

    def _timed(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._depth:  # called by itself
            return method(*arguments)
        self._depth, begin = 1, time.perf_counter()
        try:
            return method(*arguments)
        finally:
            self.called_s += time.perf_counter() - begin
            self._depth = 0

    def announce(self, recipes: Iterable[Recipe]) -> None:
        self._timed(super().announce, recipes)

    def withdraw(self, recipes: Iterable[Recipe]) -> None:
        self._timed(super().withdraw, list(recipes))

    def settle(self, recipes: Iterable[Recipe]) -> None:
        self._timed(super().settle, recipes)

    def settle_computed(self, recipes: Collection[Recipe]) -> list[Recipe]:
        others: list[Recipe] = self._timed(super().settle_computed, recipes)
        return others

    def force_all(self, wanted: Sequence[Recipe], beside: Sequence[Recipe] = (), looks: bool = True) -> list[Any]:
        values: list[Any] = self._timed(super().force_all, wanted, beside, looks)
        return values

    def close(self) -> None:
        self._timed(super().close)


LIMITS = {"cnn100": 0.05, "lenet": 0.05, "mlp1000": 0.2}


def store_rows(case: Case, pairs: int) -> list[Row]:
    """The store's share of cold runs of a case, the median of them."""
    rounds = 3 if case.model.kind == "lenet" else 100
    make, making_s = Recipe.__init__, 0.0

    def timed_make(self: Recipe, *arguments: Any) -> None:
        nonlocal making_s
        begin = time.perf_counter()
        make(self, *arguments)
        making_s += time.perf_counter() - begin

    shares, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = written(case, Path(folder))
        for pair in range(pairs):
            store = Timed(Disk(Path(folder) / f"store-{pair}"))
            making_s, Recipe.__init__ = 0.0, timed_make  # type: ignore[method-assign]
            begin = time.perf_counter()
            try:
                done = netfl.run(scenario_of(case, {"kind": "npz", "path": str(path)}, rounds), store=store, output=f"{folder}/{pair}")
            finally:
                Recipe.__init__ = make  # type: ignore[method-assign]
            store.close()
            seconds.append(time.perf_counter() - begin)
            assert done.metrics["work"]["trained_clients"] == rounds * case.per_round
            shares.append((store.called_s - store.computing_s + making_s) / seconds[-1])
    baseline = f"{statistics.median(shares):.1%} of it is the store; at most {LIMITS[case.name]:.0%}"
    row: Row = {"case": f"{case.name}, cold run of {rounds} rounds", "baseline": baseline, "ratio": None}
    return [{**row, "netfl_s": statistics.median(seconds), "baseline_s": None, "share": statistics.median(shares)}]


# --- paths ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """A small network: its model, the shape of its samples, and how many tokens there are (0: samples are numbers)."""

    name: str
    model: Any
    sample_shape: tuple[int, ...]
    tokens: int


def nets() -> list[Net]:
    """Small networks that are no chains."""
    from netfl.learning.zoo.images import MobileNet, ResNet, WideResNet
    from netfl.learning.zoo.sequences import Gru, SensorCnn, Transformer

    return [
        Net("resnet8 on 1 x 8 x 8", ResNet(), (1, 8, 8), 0),
        Net("wrn-16-1 on 1 x 8 x 8", WideResNet(), (1, 8, 8), 0),
        Net("mobilenet x 0.06 on 3 x 8 x 8", MobileNet(width=0.06), (3, 8, 8), 0),
        Net("sensor cnn on 9 x 64", SensorCnn(channels=(16, 32), hidden=50), (9, 64), 0),
        Net("gru of 2 x 32 over 20 tokens", Gru(vocabulary=50, hidden=32), (20,), 50),
        Net("transformer of 2 x 16 over 12 tokens", Transformer(vocabulary=50, width=16, heads=2, hidden=32), (12,), 50),
    ]


def path_rows(net: Net, pairs: int) -> list[Row]:
    """A network by netfl's path, by the plain loop and by vmap."""
    from torch.func import functional_call, grad, vmap

    clients, batches = 10, 10
    rng = np.random.default_rng(0)
    shape = (clients, batches * SGD.batch_size, *net.sample_shape)
    inputs = rng.integers(0, net.tokens, shape) if net.tokens else rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 10, shape[:2])
    start = initial(net.model, net.sample_shape, 10, STREAMS.stream("model"))
    jobs = [FitJob(start, *shard, STREAMS.stream("fit", n)) for n, shard in enumerate(zip(inputs, labels, strict=True))]
    module = net.model.build(net.sample_shape, 10)
    orders = [torch.from_numpy(rng.permutation(shape[1])) for _ in jobs]
    weights = {name: torch.stack([value.detach()] * clients) for name, value in module.named_parameters()}
    gradients = vmap(
        grad(lambda parameters, x, y: functional.cross_entropy(functional_call(module, parameters, (x,)), y)), randomness="different"
    )
    cut_inputs, cut_labels = torch.from_numpy(inputs).unflatten(1, (batches, -1)), torch.from_numpy(labels).unflatten(1, (batches, -1))

    def with_vmap() -> None:
        for batch in range(batches):
            for name, gradient in gradients(weights, cut_inputs[:, batch], cut_labels[:, batch]).items():
                weights[name].sub_(gradient, alpha=SGD.learning_rate)

    runs: dict[str, Callable[[], Any]] = {
        "netfl": lambda: fit(SGD, net.model, net.sample_shape, 10, jobs, workers=1),
        "plain PyTorch loop": lambda: with_plain_loop(module, jobs, orders),
        "torch.func.vmap": with_vmap,
    }
    path = path_of(net.model, net.sample_shape, 10, SGD.batch_size)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(pairs):
        for name, run in runs.items():
            times[name].append(timed(run, 2))
    return [compared(f"{net.name} ({path.kind})", name, times["netfl"], times[name]) for name in runs if name != "netfl"]


# --- the whole ------------------------------------------------------------------------------------------------------------


def shown(row: Row) -> str:
    """A row as a line of text."""
    begin = f"{row['case']:<46} {row['baseline']:<24}"
    if row["ratio"] is None:
        return begin + ("" if row["netfl_s"] is None else f" {'':>7} {1000 * row['netfl_s']:>9.2f} ms")
    return f"{begin} {row['ratio']:>7.2f} {1000 * row['netfl_s']:>9.2f} ms {1000 * row['baseline_s']:>9.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--pairs", type=int, default=5, help="turns a case")
    parser.add_argument("--cases", default="", help="names of cases, with commas between; all by default")
    parser.add_argument("--tables", default="rounds,whole,store", help="rounds, whole, store, paths, with commas between")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netfl" / "peers"
    parser.add_argument("--peers", nargs="?", type=Path, const=cache, metavar="FOLDER", help=f"install and run peers (in {cache})")
    arguments = parser.parse_args()
    wanted = arguments.cases.split(",") if arguments.cases else [case.name for case in CASES]
    unknown = {*wanted} - {case.name for case in CASES} | {*arguments.tables.split(",")} - {"rounds", "whole", "store", "paths"}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; cases are {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(1)
    cases = [case for case in CASES if case.name in wanted]
    work: list[Callable[[], list[Row]]] = []
    if "rounds" in arguments.tables:
        work += [functools.partial(round_rows, case, arguments.pairs, arguments.peers) for case in cases]
    if "whole" in arguments.tables:
        whole = [case for case in cases if case.model.kind != "lenet"]
        work += [functools.partial(whole_rows, case, max(1, arguments.pairs // 2)) for case in whole]
        work += [functools.partial(process_rows, case) for case in whole if case.name == "mlp100"]
    if "store" in arguments.tables:
        work += [functools.partial(store_rows, case, max(1, arguments.pairs // 2)) for case in cases if case.name in LIMITS]
    if "paths" in arguments.tables:
        work += [functools.partial(path_rows, net, arguments.pairs) for net in nets()]
    rows: list[Row] = []
    if not arguments.json:
        print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'case':<46} {'baseline':<24} {'ratio':>7} {'netfl':>12} {'baseline':>12}")
    for measure in work:
        found = measure()
        rows += found
        if not arguments.json:
            for row in found:
                print(shown(row), flush=True)
    if arguments.json:
        print(json.dumps(rows))
    else:
        print(f"load of the last minute: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
