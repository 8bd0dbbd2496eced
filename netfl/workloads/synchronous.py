"""Synchronous federated training: rounds of selection, download, local training, upload and aggregation.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017, with the
over-selection and the deadline of Bonawitz et al., "Towards federated learning at scale", SysML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from netfl.learning.aggregators import AGGREGATORS, Aggregator, Mean
from netfl.learning.select import SELECTORS, Selector, Uniform
from netfl.units import Duration
from netfl.workloads.checks import Found, aggregator_problems, check_positive
from netfl.workloads.federated import Federated, Process, Training
from netfl.workloads.hub import Hub, num_asked, train
from netfl.workloads.secure import SecureAggregation
from netfl.workloads.selective import Selective
from netfl.workloads.session import Session, Setting, matching

__all__ = ["Synchronous"]


@dataclass(frozen=True, kw_only=True)
class Synchronous(Federated):
    """Federated averaging in rounds.

    Args:
        clients_per_round: how many updates a round aggregates at most.
        over_selection: ask this many times `clients_per_round` clients, rounded up, and abort who comes too late.
        deadline: a round ends after this long with the updates that it has; none waits for all.
        selector: who takes part.
        aggregator: what the server makes of the updates.
        selective: which clients upload; all when left out.
        secure_aggregation: count the bytes of updates that the server sees only the sum of; they take no codecs.
    """

    clients_per_round: Annotated[int, Ge(1)]
    over_selection: Annotated[float, Ge(1), Le(100)] = 1.0
    deadline: Duration | None = None
    selector: Annotated[Selector, SELECTORS] = field(default_factory=Uniform)
    aggregator: Annotated[Aggregator, AGGREGATORS] = field(default_factory=Mean)
    selective: Selective | None = None
    secure_aggregation: SecureAggregation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("deadline", self.deadline)
        if self.secure_aggregation is not None and self.uplink:
            raise ValueError("uplink: masked updates cannot be coded; `secure_aggregation.value_bits` says how many bits a value has")
        if self.secure_aggregation is not None and self.aggregator.needs_each:
            raise ValueError(
                f"aggregator: {type(self.aggregator).__name__} looks at each update, and secure aggregation shows their sum alone"
            )

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        clients = matching(self.clients, setting.topology)
        asked = num_asked(self.clients_per_round, self.over_selection)
        if clients and asked > len(clients):
            yield ("clients_per_round",), f"asks {asked} clients a round (over-selection included); there are {len(clients)}"
        if self.selective is not None and self.aggregator.least_updates > 1:
            yield (
                ("selective",),
                f"the aggregator needs {self.aggregator.least_updates} updates a round, and any number of clients may skip",
            )
        yield from aggregator_problems(
            self.aggregator, self.trainer, ("clients_per_round", self.clients_per_round), carries_controls=self.selective is None
        )

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        training = Training(self, session, name, self.server)
        uplink, downlink = self.directions(training)
        server = Hub(
            training, self.server, training.clients, uplink=uplink, downlink=downlink, per_round=self.clients_per_round,
            asked=num_asked(self.clients_per_round, self.over_selection), deadline_s=self.deadline, selector=self.selector,
            aggregator=self.aggregator, model=training.model, selective=self.selective, secure=self.secure_aggregation,
        )  # fmt: skip
        return train(training, server)
