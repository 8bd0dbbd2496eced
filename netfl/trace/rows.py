"""What a run records: one frozen dataclass a table of `run.db`, one row an event.

Every row says only what happened in the simulation: no host time, no path, no count of work done. The trace digest is taken
over these rows in the order in which they were written; notes, which the digest leaves out, only sum up what the rows say or intend.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "NOTE_TYPES",
    "ROW_TYPES",
    "Computation",
    "DeviceLoad",
    "DeviceUse",
    "Evaluation",
    "LinkLoad",
    "LinkUse",
    "NoisySums",
    "Outage",
    "Planned",
    "Release",
    "Request",
    "Round",
    "RunEnd",
    "Setback",
    "Transfer",
    "Wait",
    "Workload",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A workload of the scenario; written when the run begins.

    Args:
        workload: its name.
        role: training, serving or background.
        dense_bytes: length of its model as a message of float32; 0 where it trains none.
    """

    workload: str
    role: str
    dense_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """One `send`, from its start to its end, retries included; written when it ends (or when the run does).

    Args:
        transfer: running number in order of start, from 1.
        workload: who sent it.
        kind: model, update, activation, request, reply, metadata or background.
        label: what it carried, as "round 3".
        source: device name.
        destination: device name.
        route: the devices on the way of the last attempt, joined by ">".
        payload_bytes: length of the encoded message.
        start_s: when it was asked for.
        end_s: when its last byte arrived, or when it was given up or cut off.
        outcome: delivered, aborted (by the sender or the server), failed (out of attempts) or in_flight (at the run's end).
        attempts: how many times it was tried.
        sent_bytes: bytes that moved in all attempts.
        wasted_bytes: those that moved for nothing.
        latency_s: seconds of silence before bytes move, over all attempts.
        stalled_s: seconds for which an outage held it.
    """

    transfer: int
    workload: str
    kind: str
    label: str
    source: str
    destination: str
    route: str
    payload_bytes: int
    start_s: float
    end_s: float
    outcome: str
    attempts: int
    sent_bytes: int
    wasted_bytes: int
    latency_s: float
    stalled_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """What held a transfer back, besides latency and outages; written with the transfer.

    For every transfer, its `latency_s`, its `stalled_s` and the `seconds` of its waits sum to `end_s - start_s`.

    Args:
        transfer: its number.
        cause: link or medium (the capacity that was its bottleneck), set-up (of a connection), slow start, window (a congestion window that losses
            cut), last packet (lost, and late) or pause (between attempts). Of a row that stands for several
            rehearsed transfers: rehearsed (their bits moved, or it was another's turn). Of a datagram transfer, for the frame that ended it
            and the earlier ones that it waited for: queue (another's frames), duty cycle, airtime, acknowledgement (waited for).
        element: the link (with its direction if each has a capacity of its own), the medium or the air; empty for the other causes.
        seconds: for how long, over all attempts.
        share: of that capacity, on average over that time; 0 for the other causes.
        rate_bps: how fast it moved meanwhile, on average.
    """

    transfer: int
    cause: str
    element: str
    seconds: float
    share: float
    rate_bps: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Computation:
    """One `compute`; written when it ends.

    Args:
        device: where it ran.
        workload: who asked for it.
        kind: training, inference or aggregation.
        label: as "round 3" or "request 17".
        flop: work done.
        queued_s: when it was asked for.
        start_s: when its first step began.
        end_s: when its last step ended.
        busy_s: seconds of processor time that it took.
    """

    device: str
    workload: str
    kind: str
    label: str
    flop: float
    queued_s: float
    start_s: float
    end_s: float
    busy_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of a training workload; written when it ends.

    Args:
        workload: the training workload.
        round: counted from 1.
        start_s: when its clients were selected.
        end_s: when the new global model existed.
        selected: clients asked to take part.
        accepted: clients whose update was aggregated.
        aborted: clients whose work the server cut off: at the deadline, or as surplus.
        failed: clients lost to the network.
        skipped: clients that had nothing worth an upload.
        version: number of the global model after the round; unchanged when no update came.
    """

    workload: str
    round: int
    start_s: float
    end_s: float
    selected: int
    accepted: int
    aborted: int
    failed: int
    skipped: int = 0
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What the client that uploaded most often has let out under differential privacy; written at the run's end.

    Args:
        workload: the training workload, whose codecs of updates spend privacy.
        epsilon: spent on each coordinate that is let out; infinite if one stage lets the values themselves through.
        released: how many coordinates an update lets out.
        num_values: coordinates of the model.
        rounds: how many updates it has sent, those that never arrived too.
    """

    workload: str
    epsilon: float
    released: int
    num_values: int
    rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisySums:
    """Sums with Gaussian noise over random sets of a fixed number of records; written at the run's end.

    Args:
        workload: the training workload.
        records: clients (whose updates the server adds up) or samples (whose gradients a client adds up in a step).
        noise_multiplier: standard deviation of the noise on a sum, in clip norms.
        sampled: how many records a sum takes.
        total: of how many.
        sums: how many of them; of samples, those of clients to whom no other had both a larger sampled share and more sums.
        delta: for which epsilon is told.
    """

    workload: str
    records: str
    noise_multiplier: float
    sampled: int
    total: int
    sums: int
    delta: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A global model measured on the test samples.

    Args:
        workload: the training workload.
        version: number of the global model; 0 is the initial one.
        time_s: when that model came to be.
        accuracy: share of test samples classified rightly.
        loss: mean cross-entropy in nats.
    """

    workload: str
    version: int
    time_s: float
    accuracy: float
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One inference request; written when it ends (or when the run does).

    The four parts of its latency, and the seconds of its `Setback`s whose cause is not memory, sum to `end_s - arrival_s` for an
    answered request.

    Args:
        request: running number in order of arrival, from 1.
        workload: the serving workload.
        device: who asked.
        sample: index of the evaluation sample.
        version: number of the global model that answered; -1 when none did.
        placement: as "camera-1:0-3 edge:3-9", node ranges by device; of those who answered, or were asked last.
        arrival_s: when it was issued.
        end_s: when the answer was back, or when it was given up or cut off.
        deadline_s: how long it was allowed to take; infinity when it had no deadline.
        outcome: answered, failed (the network lost it), dropped (nobody answered before a timeout), rejected (some device's memory was short) or
            censored (unfinished at the run's end).
        correct: 1 if the answer was the true label, 0 if not, -1 when there was none.
        queue_s: waiting for processors.
        compute_s: in processors.
        transmit_s: bytes moving, stalls and retries included.
        propagation_s: latency of links.
    """

    request: int
    workload: str
    device: str
    sample: int
    version: int
    placement: str
    arrival_s: float
    end_s: float
    deadline_s: float
    outcome: str
    correct: int
    queue_s: float
    compute_s: float
    transmit_s: float
    propagation_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Setback:
    """Something that an inference request met besides queues and links; written when it is over.

    Args:
        request: its number.
        workload: the serving workload.
        cause: timeout (no answer in time), lost (by the network), refused (by a device whose memory was short) or memory (was short).
        device: the server that had been asked; the device whose memory was short.
        start_s: when that attempt, or the wait for memory, began.
        seconds: for how long.
        followed_by: after an attempt, the device asked next, the asking one itself included, or drop; of memory, wait or reject.
    """

    request: int
    workload: str
    cause: str
    device: str
    start_s: float
    seconds: float
    followed_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """A time for which a device or link was down; written at the run's end, of elements that a transfer crossed or a workload asked for.

    Args:
        element: name of the device or link.
        element_kind: device or link.
        start_s: when it went down.
        end_s: when it came back; the run's end if it did not.
        reason: outage, or battery: it was empty.
    """

    element: str
    element_kind: str
    start_s: float
    end_s: float
    reason: str = "outage"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkUse:
    """What one direction of a link carried of one kind of message; written at the run's end.

    sent = delivered + wasted + in flight, always.

    Args:
        link: name.
        source: the device at the sending end of this direction.
        destination: the device at the receiving end.
        workload: who sent.
        kind: of message.
        sent_bytes: bytes that moved.
        delivered_bytes: those of transfers that arrived.
        wasted_bytes: those that moved for nothing.
        in_flight_bytes: those of transfers under way at the end.
        transmit_j: energy of the sending radio.
        receive_j: energy of the receiving radio.
    """

    link: str
    source: str
    destination: str
    workload: str
    kind: str
    sent_bytes: int
    delivered_bytes: int
    wasted_bytes: int
    in_flight_bytes: int
    transmit_j: float
    receive_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceUse:
    """What one device spent; written at the run's end.

    Args:
        device: name.
        tier: device, gateway, edge or cloud.
        busy_s: processor time.
        compute_j: energy of the processor above idle.
        idle_j: energy at idle over the whole run.
        transmit_j: energy of its radios, sending.
        receive_j: energy of its radios, receiving.
        bytes_up: bytes that it sent on first hops as the source of a transfer.
        bytes_down: bytes that reached it as the destination of a transfer.
        peak_memory_bytes: most memory that its work needed at once.
        storage_bytes: models that it keeps.
    """

    device: str
    tier: str
    busy_s: float
    compute_j: float
    idle_j: float
    transmit_j: float
    receive_j: float
    bytes_up: int
    bytes_down: int
    peak_memory_bytes: int
    storage_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnd:
    """The last row.

    Args:
        simulated_s: the clock when the run ended.
        reason: as "accuracy 0.95 reached" or "2 h".
    """

    simulated_s: float
    reason: str


ROW_TYPES: dict[str, type] = {
    "workloads": Workload,
    "transfers": Transfer,
    "waits": Wait,
    "computations": Computation,
    "rounds": Round,
    "evaluations": Evaluation,
    "releases": Release,
    "noisy_sums": NoisySums,
    "requests": Request,
    "setbacks": Setback,
    "outages": Outage,
    "link_use": LinkUse,
    "device_use": DeviceUse,
    "run_end": RunEnd,
}
"""Table name to row type; a table's columns are the row's fields, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceLoad:
    """A note on how busy a processor was; written at the run's end, for devices that computed.

    Args:
        device: name.
        busy_s: processor time.
        mean_waiting: jobs that waited for it, the one at work not counted; the mean over the run's time.
        most_waiting: the most that ever did.
    """

    device: str
    busy_s: float
    mean_waiting: float
    most_waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLoad:
    """A note on how busy one direction of a link was; written at the run's end, for those that carried something.

    Args:
        link: name.
        source: the device at the sending end of this direction.
        destination: the device at the receiving end.
        busy_s: what its bytes take at its own rate.
    """

    link: str
    source: str
    destination: str
    busy_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A note on a placement that serves from now on.

    Args:
        workload: the serving workload.
        device: whose requests.
        time_s: since when.
        planner: its kind.
        placement: as in `Request`.
        estimate_s: what the planner expects one request to take when nothing else happens.
    """

    workload: str
    device: str
    time_s: float
    planner: str
    placement: str
    estimate_s: float


NOTE_TYPES: dict[str, type] = {"device_loads": DeviceLoad, "link_loads": LinkLoad, "plans": Planned}
"""The same for notes."""
