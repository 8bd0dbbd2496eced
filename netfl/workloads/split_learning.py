"""Split learning: the device trains the first layers, a server the others; clients take turns.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018; the U shape, in which the labels stay
with the client too, after P. Vepakomma et al., "Split learning for health", 2018.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from netfl.codecs import dense_bytes
from netfl.compute import Work
from netfl.learning import values
from netfl.parts import nearest
from netfl.placement import Profile
from netfl.store import Recipe
from netfl.workloads.checks import Found, dealing_problems, server_problems, shortened
from netfl.workloads.federated import Learners, Process, Training
from netfl.workloads.session import Session, Setting, matching

__all__ = ["SplitLearning"]

_LABEL_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class SplitLearning(Learners):
    """Clients train one model in turn, each together with the server.

    For every mini-batch the client sends what crosses the cut, and the labels (4 bytes each, a choice), and gets the gradients back;
    all as float32. In the U shape (`last`) the client also has the last layers: outputs of the server's layers and their
    gradients cross too, and labels stay. Then the client's layers go to the next client, through the server. All this is ordinary
    SGD over one client's samples after the other's; the optimiser begins anew with every turn. A round is a turn of every client
    that is up, by name. A turn that the network breaks off has never been.

    Args:
        first: the last node that the client runs, by name (`netfl profile`).
        last: the last node that the server runs; the client runs the rest. The server runs everything after `first` when left out.
        server: the device that trains the other layers.
    """

    first: str
    last: str | None = None
    server: str = "cloud"

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        yield from server_problems(self.server, self.clients, setting)
        if getattr(self.trainer, "clip_norm", None) is not None:
            yield ("trainer", "clip_norm"), "neither side of the cut knows the norm of the whole gradient: split learning cannot clip it"

    def model_problems(self, session: Session) -> Found:
        """See `Workload`; and whether the cuts exist and the server's part fits it."""
        profile = session.task.profile
        names = [("first", self.first), *([("last", self.last)] if self.last is not None else [])]
        unknown = [(setting, name) for setting, name in names if name not in profile.index]
        for setting, name in unknown:
            hint = nearest(name, list(profile.index))
            yield (setting,), f"no node '{name}' in the model; the nodes are {', '.join(profile.index)}. {hint}".rstrip()
        if unknown:
            return
        first, last = self._cuts(profile)
        if not 0 < first < last <= len(profile.nodes):
            yield ("last",), "expected a node after `first`: the server would run nothing"
            return
        if not profile.piece_parameter_bytes(0, first):
            yield ("first",), f"the nodes up to '{self.first}' have no parameters: the client would train nothing; name a later node"
        if self.last is not None and last == len(profile.nodes):
            yield ("last",), "is the model's last node: nothing is left for the client; leave it out"
        clients = matching(self.clients, session.world.topology)
        undealt = list(dealing_problems(len(clients), session))
        if undealt:
            yield from undealt
            return
        samples = session.shard_samples(len(clients))
        found = []
        for device, num_samples in [*zip(clients, samples, strict=True), (self.server, max(samples))]:
            need = max(
                work.memory_bytes
                for where, work in self._batch(profile, min(self.trainer.batch_size, num_samples))
                if where == (device == self.server)
            )
            have = session.world.profile(device).memory_bytes
            if need > have:
                found.append(f"its part of the model needs {need:,} bytes of memory on '{device}', which has {have:,}")
        yield from shortened((), found)

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        return self._run(Training(self, session, name, self.server))

    def _run(self, training: Training) -> Process:
        world = training.world
        training.begin()
        holder: str | None = None
        for number in range(1, self.rounds + 1):
            yield from training.wait_for_any(list(training.clients))
            fits: dict[str, Recipe] = {}
            start_s, model, failed = world.now, training.model, 0
            turns = world.up_among(training.clients)
            for client in turns:
                taken = yield from self._turn(training, holder, client, number)
                if not taken:
                    failed += 1
                    continue
                holder = client
                fit = training.clients[client].update(model, number)
                training.announce(number, {client: fit})
                fits[client] = fit
                model = values.total(model, fit)
            if fits:
                training.used(number, fits, model)
                training.advance(model)
            training.end_round(number, start_s, len(turns), len(fits), failed)

    def _turn(self, training: Training, holder: str | None, client: str, number: int) -> Generator[Any, Any, bool]:
        """Hand the client's layers over and train its samples once through; whether nothing was lost."""
        world, label, profile = training.world, f"round {number}", training.session.task.profile
        parameter_bytes = self._handed_bytes(profile)
        legs = [(self.server, client)] if holder is None else [(holder, self.server), (self.server, client)]
        for source, destination in legs if holder != client else []:
            handing = training.send(source, destination, "model", parameter_bytes, label)
            yield handing
            if not handing.delivered:
                return False
        steps: dict[int, list[tuple[tuple[bool, Work], int | None]]] = {}
        for batch in self._batches(training.clients[client].num_samples):
            if batch not in steps:
                steps[batch] = list(zip(self._batch(profile, batch), [*self._crossings(profile, batch), None], strict=True))
            for (at_server, work), payload_bytes in steps[batch]:
                device = self.server if at_server else client
                yield world.compute(device, work, workload=training.name, label=label)
                if payload_bytes is not None:
                    sending = training.send(device, client if at_server else self.server, "activation", payload_bytes, label)
                    yield sending
                    if not sending.delivered:
                        return False
        return True

    def _cuts(self, profile: Profile) -> tuple[int, int]:
        """How many nodes lie before the server's, and before the client's last ones."""
        return profile.index[self.first] + 1, len(profile.nodes) if self.last is None else profile.index[self.last] + 1

    def _batches(self, num_samples: int) -> Iterator[int]:
        """The lengths of the mini-batches of one turn."""
        for _ in range(self.trainer.epochs):
            for begin in range(0, num_samples, self.trainer.batch_size):
                yield min(self.trainer.batch_size, num_samples - begin)

    def _handed_bytes(self, profile: Profile) -> int:
        """Length of the client's layers as a message."""
        first, last = self._cuts(profile)
        held = profile.piece_parameter_bytes(0, first) + profile.piece_parameter_bytes(last, len(profile.nodes))
        return dense_bytes(held // 4)

    def _crossings(self, profile: Profile, batch: int) -> list[int]:
        """Lengths of the messages of one mini-batch, in order."""
        first, last = self._cuts(profile)
        front = _crossing_bytes(profile, first, batch)
        if self.last is None:
            return [front + _LABEL_BYTES * batch, front]
        back = _crossing_bytes(profile, last, batch)
        return [front, back, back, front]

    def _batch(self, profile: Profile, batch: int) -> list[tuple[bool, Work]]:
        """The work of one mini-batch in order, each with whether it is the server's: forward once, backward twice the forward work."""
        first, last = self._cuts(profile)
        front, middle, back = (0, first), (first, last), (last, len(profile.nodes))
        if self.last is None:
            parts = [(False, front, 1), (True, middle, 3), (False, front, 2)]
        else:
            parts = [(False, front, 1), (True, middle, 1), (False, back, 3), (True, middle, 2), (False, front, 2)]
        return [(at_server, _piece_work(profile, piece, passes, batch)) for at_server, piece, passes in parts]


def _crossing_bytes(profile: Profile, cut: int, batch: int) -> int:
    """Length of what crosses a cut for a mini-batch."""
    return dense_bytes(batch * sum(profile.nodes[profile.index[name]].output_values for name in profile.crossing(cut)))


def _piece_work(profile: Profile, piece: tuple[int, int], passes: int, batch: int) -> Work:
    """So many passes' worth of a piece for a mini-batch; it holds parameters, gradients and the batch's activations."""
    flop, moved_bytes = profile.work(*piece)
    held = 2 * profile.piece_parameter_bytes(*piece) + 2 * batch * 4 * sum(node.output_values for node in profile.nodes[slice(*piece)])
    return Work(kind="training", flop=passes * flop * batch, moved_bytes=passes * moved_bytes * batch, memory_bytes=held)
