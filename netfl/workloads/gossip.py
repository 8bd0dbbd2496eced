"""Gossip: decentralised training without a server; everyone mixes its model with those of its neighbours.

X. Lian et al., "Can decentralized algorithms outperform centralized algorithms? A case study for decentralized parallel
stochastic gradient descent", NeurIPS 2017 (D-PSGD). With codecs it is CHOCO-SGD: A. Koloskova, S. Stich, M. Jaggi, "Decentralized
stochastic optimization and gossip algorithms with compressed communication", ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import simpy
from annotated_types import Gt, Le

from netfl.codecs import CODECS, Stage
from netfl.learning import values
from netfl.network.neighbours import GRAPHS, Graph, Links, apart, metropolis
from netfl.store import Recipe
from netfl.units import Duration
from netfl.workloads.checks import Found, check_pipeline, check_positive, unreachable
from netfl.workloads.downlink import Downlink
from netfl.workloads.federated import Leaf, Learners, Process, Training
from netfl.workloads.session import Session, Setting, matching

__all__ = ["Gossip"]


@dataclass(frozen=True, kw_only=True)
class Gossip(Learners):
    """Every client trains its own model, sends it to its neighbours, and mixes it with what they sent.

    In each round a client trains, sends its model y, and when it has heard of all its neighbours takes y plus `consensus` times the
    sum of weight * (neighbour's model - its own), models as everyone decodes them; weights are Metropolis-Hastings. All clients
    begin with the same model and know it, so with a sparsifier only changes are sent. A round of the trace ends when the last client
    has ended it; what is measured is the mean of all models, and what is served is the model of the first client by name.

    Args:
        graph: who are neighbours.
        codecs: of models; none sends float32.
        consensus: how far a client moves towards its neighbours. 1 is D-PSGD; lossy codecs want less (CHOCO-SGD).
        patience: how long a client waits for its neighbours in a round; of those who are late it takes the model that it last had.
            It waits for all when left out; only a message that the network gave up is not waited for.
        error_feedback: whether what lossy codecs drop of a model is added to what is encoded next; what they drop of a change always is.
    """

    graph: Annotated[Graph, GRAPHS] = field(default_factory=Links)
    codecs: tuple[Annotated[Stage, CODECS], ...] = ()
    consensus: Annotated[float, Gt(0), Le(1)] = 1.0
    patience: Duration | None = None
    error_feedback: bool = True

    def __post_init__(self) -> None:
        check_pipeline("codecs", self.codecs)
        check_positive("patience", self.patience)

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        clients = matching(self.clients, setting.topology)
        if not clients:
            return
        yield from unreachable("clients", clients[1:], clients[0], setting)

    def model_problems(self, session: Session) -> Found:
        """See `Workload`."""
        yield from super().model_problems(session)
        clients = matching(self.clients, session.world.topology)
        try:
            neighbours = self.graph.neighbours(clients, session.world.topology, session.world.streams.stream("graph"))
        except ValueError as error:
            yield ("graph",), str(error)
            return
        parts = apart(neighbours)
        if len(parts) > 1:
            yield (
                ("graph",),
                f"the clients fall into {len(parts)} groups that never hear of each other: '{parts[0][0]}' and '{parts[1][0]}'",
            )

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        first = matching(self.clients, session.world.topology)[0]
        return _Gossip(self, Training(self, session, name, first)).run()


class _Node:
    """A client and what it knows of the others."""

    def __init__(self, leaf: Leaf, model: Recipe, downlink: Downlink, weights: dict[str, float]) -> None:
        self.leaf = leaf
        self.model = model
        self.downlink = downlink
        self.weights = weights
        # Until which round each neighbour is done for, and its models as this client decoded them, by round.
        self.heard = dict.fromkeys(weights, 0)
        self.views = {other: {0: model} for other in weights}

    def hears(self, other: str, number: int, decoded: Recipe | None) -> None:
        """A neighbour's message of a round has arrived, or is lost."""
        self.heard[other] = max(self.heard[other], number)
        if decoded is not None:
            self.views[other][number] = decoded

    def view(self, other: str, number: int) -> Recipe:
        """A neighbour's newest model of at most that round; older ones are forgotten."""
        views = self.views[other]
        newest = max(each for each in views if each <= number)
        self.views[other] = {each: view for each, view in views.items() if each >= newest}
        return views[newest]


class _Gossip:
    """One decentralised training under way."""

    def __init__(self, settings: Gossip, training: Training) -> None:
        self._settings = settings
        self._training = training
        world = self._world = training.world
        clients = list(training.clients)
        weights = metropolis(settings.graph.neighbours(clients, world.topology, world.streams.stream("graph")))
        self._nodes = {}
        for client, leaf in training.clients.items():
            downlink = training.downlink(settings.codecs, settings.error_feedback, client)
            downlink.begin(training.model, weights[client])
            self._nodes[client] = _Node(leaf, training.model, downlink, weights[client])
        self._changed: dict[str, simpy.Event] = {client: world.env.event() for client in clients}
        self._round_models: dict[int, dict[str, Recipe]] = {}
        self._fits: dict[int, dict[str, Recipe]] = {}
        self._ended: dict[int, simpy.Event] = {}

    def run(self) -> Process:
        """The process of the whole training."""
        training = self._training
        training.begin()
        rounds = self._settings.rounds
        self._ended = {number: self._world.env.event() for number in range(1, rounds + 1)}
        for client in self._nodes:
            self._world.go(self._client(client))
        start_s = self._world.now
        for number in range(1, rounds + 1):
            yield self._ended[number]
            models = self._round_models.pop(number)
            everyone = [models[client] for client in sorted(models)]
            mean = values.average(everyone)
            training.used(number, self._fits.pop(number), mean)
            training.advance(mean)
            training.end_round(number, start_s, len(everyone), len(everyone), 0)
            start_s = self._world.now

    def _client(self, client: str) -> Process:
        """One client's rounds."""
        node, world, training, settings = self._nodes[client], self._world, self._training, self._settings
        for number in range(1, settings.rounds + 1):
            label = f"round {number}"
            fit = node.leaf.update(node.model, number)
            training.announce(number, {client: fit})
            update = yield from node.leaf.work(node.model, fit, number, label)
            trained = values.total(node.model, update)
            broadcast = node.downlink.broadcast(trained)
            training.released(client, node.downlink.pipeline)
            for other in node.weights:
                world.go(self._tell(client, other, node.downlink.payload_bytes(other), broadcast.number, broadcast.decoded, number))
            patience = None if settings.patience is None else world.sleep(settings.patience)
            while min(node.heard.values(), default=number) < number and (patience is None or not patience.processed):
                yield self._changed[client] if patience is None else self._changed[client] | patience
            others = sorted(node.weights)
            views = [node.view(other, number) for other in others]
            shares = [node.weights[other] * settings.consensus for other in others]
            node.model = values.consensus(trained, broadcast.decoded, views, shares)
            models = self._round_models.setdefault(number, {})
            models[client] = node.model
            self._fits.setdefault(number, {})[client] = fit
            if len(models) == len(self._nodes):
                self._ended[number].succeed()

    def _tell(self, client: str, other: str, payload_bytes: int, broadcast: int, decoded: Recipe, number: int) -> Process:
        """Send a model to a neighbour."""
        sending = self._training.send(client, other, "update", payload_bytes, f"round {number}")
        yield sending
        if sending.delivered:
            self._nodes[client].downlink.received(other, broadcast)
        self._nodes[other].hears(client, number, decoded if sending.delivered else None)
        changed, self._changed[other] = self._changed[other], self._world.env.event()
        changed.succeed()
