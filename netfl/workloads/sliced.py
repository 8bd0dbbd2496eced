"""Crowdlearning: groups of devices that train one network in slices, and share weights through a parameter server.

Chen, Jung, Du, Qian, Hou and Li, "Crowdlearning: Crowded deep learning with data privacy" (SliceNet), IEEE SECON 2018; a re-implementation
from the paper. In a group one member after the other is the dominator, whose data is used once; the others hold slices. A shuffle moves
every weight to its next holder. When every member has dominated, the epoch ends and the group shares weights with the other groups.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from netfl.compute import Work
from netfl.errors import NetflError, RunError
from netfl.learning import values
from netfl.learning.slicing import PARTITIONERS, Even, Partitioner, recipes
from netfl.learning.slicing.recipes import Slicing
from netfl.learning.slicing.schedule import batches_of, schedule
from netfl.learning.slicing.units import DOMINATOR
from netfl.learning.trainer import TRAINERS, Trainer
from netfl.store import Recipe
from netfl.trace import Evaluation, Round
from netfl.trace import Workload as WorkloadRow
from netfl.units import Duration, Size
from netfl.workloads.checks import dealing_problems, missing_device, shortened, unmatched, unreachable
from netfl.workloads.session import ModelFeed, Session, Setting, matching
from netfl.workloads.sliced_batches import Batches, Plan, Wire, carry
from netfl.workloads.sliced_rehearsal import Rehearsals, Spent, apart
from netfl.world import Message, Sending, World
from netfl.world.messages import MessageKind

__all__ = ["Sliced"]

Process = Generator[Any, Any, Any]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """Crowdlearning: groups train one network in slices, and share weights through a server.

    A group is a dominator, one follower for each slice, and spare members. Groups are drawn at random; who is left over when the
    crowd does not divide joins the first groups as one more spare member. The accuracy that is reported is the mean over the groups'
    models; that of the server's own model is reported under NAME/server.

    Args:
        epochs: how many epochs; in each, every member is the dominator once.
        slices: into how many slices the hidden units are dealt.
        trainer: how a batch changes the weights; `epochs` is how often a dominator's turn goes through its data.
        server: the parameter server: relays and hands on, and computes nothing.
        clients: names or patterns (`camera-*`) of the crowd; every end device when empty.
        dummies: spare members of a group, who take the place of a follower that is lost.
        partitioner: which hidden unit goes into which slice.
        theta: share of its weights that a group uploads after an epoch: those that changed most.
        tau: the server hands on weights that more than omega x tau of the records hold; 0 all that were uploaded, 1 none.
        omega: records (uploads of groups) that the server keeps; as many as there are groups when not given.
        relay: whether what members send to each other in a turn goes through the server; otherwise directly. Slices move through the server
            either way.
        partial_sums: whether a holder adds up what it has for a unit before it sends it; otherwise it sends a number for each connection.
        envelope: bytes that encryption adds to a message between members. 60 is a choice: an ephemeral X25519 key, a nonce and a tag.
        seal: time that sealing such a message takes, and opening it.
        depth: batches under way at once. With 1, training is exactly mini-batch SGD; with more, gradients are that much older.
        takeover_after: for how long a member is down before it counts as lost, and its weights fall back to what they were when the turn
            began. So long an epoch waits for the last dominators, too. 10 s is a choice.
        rehearse: whether a batch that has its devices and links for itself is simulated once and used again, with `depth` 1; the numbers are
            the same but for rounding. The trace then has a row for all messages of a turn on a route.
        evaluate_every: measure the models after every this many epochs, and after the last.
    """

    epochs: Annotated[int, Ge(1)]
    slices: Annotated[int, Ge(1)]
    trainer: Annotated[Trainer, TRAINERS]
    server: str = "cloud"
    clients: tuple[str, ...] = ()
    dummies: Annotated[int, Ge(0)] = 0
    partitioner: Annotated[Partitioner, PARTITIONERS] = field(default_factory=Even)
    theta: Share = 0.5
    tau: Share = 0.5
    omega: Annotated[int, Ge(1)] | None = None
    relay: bool = True
    partial_sums: bool = True
    envelope: Size = 60
    seal: Duration = 0.0
    depth: Annotated[int, Ge(1)] = 1
    takeover_after: Duration = 10.0
    rehearse: bool = True
    evaluate_every: Annotated[int, Ge(1)] = 1

    @property
    def group_members(self) -> int:
        """The least number of members of a group."""
        return 1 + self.slices + self.dummies

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        if not setting.has_task:
            yield (), "training needs `data` and `model` in the scenario"
        if not hasattr(self.trainer, "rule"):
            yield ("trainer",), "this trainer cannot train in slices: expected sgd, adam or adamw"
        if getattr(self.trainer, "device", "cpu") != "cpu":
            yield ("trainer", "device"), "sliced training runs on the cpu only"
        yield from missing_device("server", self.server, setting)
        yield from unmatched("clients", self.clients, setting)
        clients = matching(self.clients, setting.topology)
        if self.server in clients:
            yield ("clients",), f"the server '{self.server}' cannot be a member of the crowd"
        if len(clients) < self.group_members:
            yield (
                ("slices",),
                f"a group is a dominator, {self.slices} followers and {self.dummies} dummies: {self.group_members} members; "
                f"the crowd has {len(clients)}",
            )
        yield from unreachable("server", clients, self.server, setting)

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows only once data and model are there: too many slices, shards that cannot be dealt, devices too small for a slice."""
        clients = matching(self.clients, session.world.topology)
        try:
            sliced = session.store.force(self._slicing(session))
        except (NetflError, ValueError) as error:
            yield ("slices",), str(error)
            return
        undealt = list(dealing_problems(len(clients), session))
        if undealt:
            yield from undealt
            return
        plan = self._plan(sliced)
        need = {role: plan.memory_bytes(role, self.trainer.batch_size) for role in plan.roles}
        most = max(need, key=lambda role: need[role])
        what = "the dominator's layers" if most == DOMINATOR else f"slice {most}"
        found = [
            f"{what}, which any member may hold, needs {need[most]:,} bytes of memory; '{client}' has {session.world.profile(client).memory_bytes:,}"
            for client in clients
            if need[most] > session.world.profile(client).memory_bytes
        ]
        yield from shortened(("slices",), found)

    role: ClassVar = "training"

    @property
    def ends(self) -> bool:
        """After its last epoch."""
        return True

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        session.feeds[name] = ModelFeed(session.world.env, self.server)
        return _Crowd(self, session, name).run()

    def _slicing(self, session: Session) -> Recipe:
        return recipes.slicing(session.task.model, session.task.dataset, self.partitioner, self.slices)

    def _plan(self, sliced: Slicing) -> Plan:
        wire = Wire(self.server if self.relay else None, self.envelope, self.seal)
        return Plan(schedule(sliced.net, sliced.roles, self.partial_sums), wire, self.depth)


class _Crowd:
    """One workload under way: what its groups share."""

    def __init__(self, settings: Sliced, session: Session, name: str) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.store = session.store
        self.name = name
        self.clients = matching(settings.clients, self.world.topology)
        self.index = {client: index for index, client in enumerate(self.clients)}
        self.shards = session.shards(len(self.clients))
        self.num_samples = session.shard_samples(len(self.clients))
        self.slices = settings._slicing(session)
        self.sliced: Slicing = self.store.force(self.slices)
        self.plan = settings._plan(self.sliced)
        # Slices move through the server even where batches do not.
        self.wire = Wire(settings.server, settings.envelope, settings.seal)
        task = session.task
        self.initial = values.initial_model(task.model, task.dataset, self.world.streams.stream("initial model"))
        self.groups = [_Group(self, number, members) for number, members in enumerate(self._dealt(), 1)]
        self.omega = settings.omega if settings.omega is not None else len(self.groups)
        self.uploads: list[Recipe] = []
        self.server_model = self.initial
        self.server_after = [self.initial]
        members = [group.members for group in self.groups]
        self.may_rehearse = (
            session.alone
            and settings.rehearse
            and settings.depth == 1
            and apart(self.world, members, settings.server if settings.relay else None)
        )
        self.rehearsals = Rehearsals(self.world, self.plan)
        # How many groups' exchanges there were, and what waits for the next one.
        self._shares = 0
        self._next_share = self.world.env.event()
        self._left = [len(self.groups)] * settings.epochs
        self._over = [self.world.env.event() for _ in range(settings.epochs)]
        self.owned = np.bincount(self.sliced.net.owners(self.sliced.roles), minlength=settings.slices + 1).tolist()

    def _dealt(self) -> list[tuple[str, ...]]:
        """The groups: members drawn at random, then in the order of their names."""
        order = self.world.streams.generator("groups", self.name).permutation(len(self.clients))
        count = len(self.clients) // self.settings.group_members
        return [tuple(sorted(self.clients[index] for index in order[number::count])) for number in range(count)]

    def run(self) -> Process:
        self.session.at_end(self._book_what_is_under_way)
        self.world.trace.append(WorkloadRow(workload=f"{self.name}/server", role="training", dense_bytes=self.session.dense_bytes))
        self.world.keep(self.settings.server, self.name, 4 * self.sliced.net.num_parameters)
        feed = self.session.feeds[self.name]
        feed.publish(0, self.initial)
        self.session.reached(self._evaluate(0))
        for group in self.groups:
            self.world.env.process(group.run())
        for epoch in range(1, self.settings.epochs + 1):
            yield self._over[epoch - 1]
            feed.publish(epoch, self.server_after[epoch])
            self._record(epoch)
            if epoch % self.settings.evaluate_every == 0 or epoch == self.settings.epochs:
                self.session.report(self.name, epoch, self.settings.epochs, self._evaluate(epoch))

    def until_turn_to_share(self, epoch: int, group: int) -> Process:
        """Until all groups before this one, and all of the epochs before, have shared: so what is learnt does not depend on who is faster."""
        while self._shares < (epoch - 1) * len(self.groups) + group - 1:
            yield self._next_share

    def shared(self) -> None:
        """A group's upload is in the window, and what it receives is decided."""
        self._shares += 1
        if self._shares % len(self.groups) == 0:
            self.server_after.append(self.server_model)
        done, self._next_share = self._next_share, self.world.env.event()
        done.succeed()

    def take(self, uploaded: Recipe) -> None:
        """Put a group's upload into the window."""
        self.uploads = [*self.uploads, uploaded][-self.omega :]
        self.server_model = recipes.server_model(self.server_model, self.uploads, self.omega)

    def epoch_over(self, epoch: int) -> None:
        """A group's epoch is over."""
        self._left[epoch - 1] -= 1
        if not self._left[epoch - 1]:
            self._over[epoch - 1].succeed()

    def _record(self, epoch: int) -> None:
        turns = [group.turns[epoch - 1] for group in self.groups]
        self.world.trace.append(
            Round(
                workload=self.name, round=epoch, start_s=min(group.epoch_starts_s[epoch - 1] for group in self.groups),
                end_s=self.world.now, selected=len(self.clients), accepted=sum(turns), aborted=0,
                failed=len(self.clients) - sum(turns), version=epoch,
            )
        )  # fmt: skip

    def _evaluate(self, epoch: int) -> float:
        """Measure the groups' models and the server's.

        Raises:
            RunError: a loss is not a number: training has diverged.
        """
        task = self.session.task
        wanted = [values.evaluate(task.model, group.after_epoch[epoch], task.dataset) for group in self.groups]
        *groups, server = self.store.force_all([*wanted, values.evaluate(task.model, self.server_after[epoch], task.dataset)])
        accuracy = math.fsum(each.accuracy for each in groups) / len(groups)
        loss = math.fsum(each.loss for each in groups) / len(groups)
        if not math.isfinite(loss):
            group = next(number for number, each in enumerate(groups, 1) if not math.isfinite(each.loss))
            raise RunError(
                f"workload '{self.name}': the loss of the model of group {group} after epoch {epoch} is {groups[group - 1].loss}: "
                f"training has diverged; lower `trainer.learning_rate`"
            )
        for name, measured in ((self.name, (accuracy, loss)), (f"{self.name}/server", (server.accuracy, server.loss))):
            self.world.trace.append(
                Evaluation(workload=name, version=epoch, time_s=self.world.now, accuracy=float(measured[0]), loss=float(measured[1]))
            )
        return float(accuracy)

    def _book_what_is_under_way(self) -> None:
        for group in self.groups:
            group.book_what_is_under_way()


@dataclass(frozen=True)
class _UnderWay:
    """A rehearsed turn that has begun.

    Args:
        start_s: when.
        devices: of each role.
        batches: samples of each batch.
        label: of its rows.
    """

    start_s: float
    devices: tuple[str, ...]
    batches: tuple[int, ...]
    label: str


class _Group:
    """One group: its members, who holds what, and its model."""

    def __init__(self, crowd: _Crowd, number: int, members: tuple[str, ...]) -> None:
        self.crowd = crowd
        self.world = crowd.world
        self.number = number
        self.members = members
        self.model = crowd.initial
        self.after_epoch = {0: crowd.initial}
        # What a lost holder's weights fall back to: what they were when the last turn began.
        self.before_turn = crowd.initial
        # Role to who holds its weights; nobody but the server before the first turn.
        self.holders: dict[int, str] = {}
        self.turns: list[int] = []
        self.epoch_starts_s: list[float] = []
        self.under_way: _UnderWay | None = None

    def run(self) -> Process:
        for epoch in range(1, self.crowd.settings.epochs + 1):
            self.epoch_starts_s.append(self.world.now)
            order = self.world.streams.generator("dominators", self.crowd.name, self.number, epoch).permutation(len(self.members))
            waiting = [self.members[index] for index in order]
            after, done = self.model, 0
            while waiting:
                dominator = yield from self._next(waiting, epoch)
                if dominator is None:
                    break
                waiting.remove(dominator)
                after, is_trained = yield from self._turn(epoch, len(self.members) - len(waiting), dominator, after)
                done += is_trained
            self.turns.append(done)
            yield from self._exchange(epoch, after, any_turn=done > 0)

    # --- turns --------------------------------------------------------------------------------------------------------------

    def _next(self, waiting: list[str], epoch: int) -> Process:
        """The next dominator, as soon as it and enough others are up; None when those who are left do not come back in time.

        Raises:
            RunError: too few members will ever be up again.
        """
        slices, patience_s = self.crowd.settings.slices, self.world.now + self.crowd.settings.takeover_after
        while True:
            up = self.world.up_among(self.members)
            ready = [member for member in waiting if member in up]
            enough = len(up) > slices
            if ready and enough:
                return ready[0]
            change_s = min(self.world.next_change_s(member) for member in self.members)
            if enough:
                if self.world.now >= patience_s:
                    return None
                change_s = min(change_s, patience_s)
            elif math.isinf(change_s):
                raise RunError(
                    f"workload '{self.crowd.name}': group {self.number} has {len(up)} members left in epoch {epoch} and needs {1 + slices}; "
                    f"the others never come back"
                )
            yield self.world.sleep(change_s - self.world.now)

    def _turn(self, epoch: int, number: int, dominator: str, before: Recipe) -> Process:
        """One dominator's turn, a shuffle and its batches: the group's model after it, and whether any batch was trained."""
        crowd, settings = self.crowd, self.crowd.settings
        label = f"group {self.number} epoch {epoch} turn {number}"
        others = self.world.up_among(member for member in self.members if member != dominator)
        drawn = self.world.streams.generator("slices", crowd.name, self.number, epoch, number).permutation(len(others))
        devices = [dominator, *(others[index] for index in drawn[: settings.slices])]
        fallen = yield from self._shuffle(devices, label)
        for role in fallen:
            before = recipes.fallen_back(before, self.before_turn, crowd.slices, role)
        if DOMINATOR not in self.holders:
            return before, False
        self.before_turn = before
        shard = crowd.index[dominator]
        batches = batches_of(crowd.num_samples[shard], settings.trainer.batch_size, settings.trainer.epochs)
        spent = self._undisturbed(tuple(devices), batches)
        losses: list[tuple[int, int]] = []
        if spent is not None:
            self.under_way = _UnderWay(self.world.now, tuple(devices), batches, label)
            yield self.world.sleep(spent.duration_s)
            self._book(self.under_way, spent)
            self.under_way = None
            ended = len(batches)
        else:
            ended = yield from self._message_by_message(devices, batches, label, losses)
        if ended == 0:
            return before, False
        task = crowd.session.task
        stream = self.world.streams.stream("turn", crowd.name, self.number, epoch, dominator)
        after = recipes.turn(
            settings.trainer, task.model, before, task.dataset, (crowd.shards, shard), stream, settings.depth, crowd.slices,
            None if ended == len(batches) else ended, tuple(losses),
        )  # fmt: skip
        return after, True

    def _message_by_message(self, devices: list[str], batches: tuple[int, ...], label: str, losses: list[tuple[int, int]]) -> Process:
        """The batches of a turn on the world itself, with takeovers; how many of them ended."""
        crowd, settings = self.crowd, self.crowd.settings
        ended = 0
        while ended < len(batches):
            running = Batches(self.world, crowd.plan, devices, batches[ended:], crowd.name, label)
            watch = _Watch(self.world, devices, settings.takeover_after)
            yield running.done | watch.lost
            watch.close()
            ended += running.ended
            if running.done.triggered:
                break
            running.cancel()
            lost: int = watch.lost.value or DOMINATOR
            losses.append((lost, ended))
            self._let_go(lost)
            if lost == DOMINATOR:
                break
            while lost not in self.holders:
                devices[lost] = yield from self._spare(devices, lost)
                yield from self._move(lost, devices[lost], f"{label} takeover")
        return ended

    def _shuffle(self, devices: list[str], label: str) -> Process:
        """Move every role's weights to its next holder; `devices` is changed where one is lost meanwhile.

        Returns:
            The roles whose weights were lost with their old holder. The dominator holds nothing afterwards if it is lost itself.
        """
        fallen: list[int] = []
        waiting = [role for role, device in enumerate(devices) if self.holders.get(role) != device]
        while waiting:
            moves = [self.world.env.process(self._move(role, devices[role], f"{label} shuffle")) for role in waiting]
            yield self.world.env.all_of(moves)
            for role, move in zip(tuple(waiting), moves, strict=True):
                if move.value == "moved":
                    waiting.remove(role)
                elif move.value == "old holder lost":
                    self._let_go(role)
                    fallen.append(role)
                elif role == DOMINATOR:
                    self._let_go(role)
                    waiting.remove(role)
                else:
                    devices[role] = yield from self._spare(devices, role)
        return fallen

    def _move(self, role: int, device: str, label: str) -> Process:
        """Bring a role's weights to a device, from their holder or from the server; says what became of it."""
        crowd = self.crowd
        old = self.holders.get(role)
        source = crowd.settings.server if old is None else old
        message = Message(kind="model", payload_bytes=4 * crowd.owned[role] + crowd.settings.envelope, workload=crowd.name, label=label)
        sendings: list[Sending] = []
        carrying = self.world.env.process(carry(self.world, crowd.wire, source, device, message, sendings))
        watch = _Watch(self.world, [device] if old is None else [device, old], crowd.settings.takeover_after)
        yield carrying | watch.lost
        watch.close()
        if carrying.triggered:
            self._let_go(role)
            self.holders[role] = device
            self.world.keep(device, f"{crowd.name} {role}", 4 * crowd.owned[role])
            return "moved"
        sendings[-1].abort()
        return "old holder lost" if watch.lost.value else "new holder lost"

    def _let_go(self, role: int) -> None:
        """Whoever holds a role's weights does so no longer."""
        device = self.holders.pop(role, None)
        if device is not None:
            self.world.keep(device, f"{self.crowd.name} {role}", 0)

    def _spare(self, devices: list[str], lost: int) -> Process:
        """A member that is up and holds nothing in this turn, by name; the lost one itself, if it comes back first.

        Raises:
            RunError: no such member will ever be up again.
        """
        held = {device for role, device in enumerate(devices) if role != lost}
        candidates = [member for member in self.members if member not in held]
        while True:
            up = self.world.up_among(candidates)
            if up:
                return up[0]
            change_s = min(self.world.next_change_s(member) for member in candidates)
            if math.isinf(change_s):
                raise RunError(
                    f"workload '{self.crowd.name}': group {self.number} has nobody left to take over slice {lost} from '{devices[lost]}': give it "
                    f"more `dummies`"
                )
            yield self.world.sleep(change_s - self.world.now)

    # --- rehearsed turns ----------------------------------------------------------------------------------------------------

    def _undisturbed(self, devices: tuple[str, ...], batches: tuple[int, ...]) -> Spent | None:
        """What a turn takes, if nothing can come in its way."""
        if not self.crowd.may_rehearse:
            return None
        routes = self.crowd.rehearsals.routes(devices)
        if not all(self.world.all_up(route) for route in routes):
            return None
        spent = self.crowd.rehearsals.of(devices, batches)
        until_s = self.world.now + spent.duration_s
        return spent if all(self.world.next_change_of_s(route) > until_s for route in routes) else None

    def _book(self, turn: _UnderWay, spent: Spent) -> None:
        """Write down what a rehearsed turn took, a row for each route and each holder."""
        name = self.crowd.name
        ends = (*turn.devices, self.crowd.settings.server)
        for flown in spent.flown:
            message = Message(
                kind="activation", payload_bytes=flown.payload_bytes, workload=name, label=f"{turn.label}: {flown.messages} messages"
            )
            self.world.book_transfers(
                ends[flown.source], ends[flown.target], message, turn.start_s, flown.sent_bytes, flown.latency_s, delivered=flown.delivered
            )
        for role, flop, busy_s, memory_bytes in spent.computed:
            work = Work(kind="training", flop=flop, memory_bytes=memory_bytes)
            self.world.book_computations(turn.devices[role], work, turn.start_s, busy_s, workload=name, label=turn.label)

    def book_what_is_under_way(self) -> None:
        """The run ends within a rehearsed turn: what of it has happened."""
        turn = self.under_way
        if turn is not None and self.world.now > turn.start_s:
            self._book(turn, self.crowd.rehearsals.begun(turn.devices, turn.batches, self.world.now - turn.start_s))

    # --- sharing with other groups ------------------------------------------------------------------------------------------

    def _exchange(self, epoch: int, after: Recipe, any_turn: bool) -> Process:
        """Upload what changed most, and take over what the server hands on; groups do so one after the other."""
        crowd, settings = self.crowd, self.crowd.settings
        uploaded = recipes.upload(after, settings.theta) if any_turn else None
        if uploaded is not None:
            yield from self._share(uploaded, "update", f"group {self.number} epoch {epoch}")
        yield from crowd.until_turn_to_share(epoch, self.number)
        if uploaded is not None:
            crowd.take(uploaded)
        received = recipes.handed_on(crowd.uploads, crowd.initial, crowd.omega, settings.tau)
        self.model = recipes.adopted(after, received)
        crowd.shared()
        yield from self._share(received, "model", f"group {self.number} epoch {epoch}")
        self.after_epoch[epoch] = self.model
        crowd.epoch_over(epoch)

    def _share(self, selection: Recipe, kind: MessageKind, label: str) -> Process:
        """Each holder's part of a selection, to the server or from it; in plain, as the paper has it."""
        crowd = self.crowd
        server, wire = crowd.settings.server, Wire(None, 0, 0.0)
        sent = []
        for role, payload_bytes in enumerate(crowd.store.force(recipes.selection_bytes(selection, crowd.slices))):
            if payload_bytes and role in self.holders:
                ends = (self.holders[role], server) if kind == "update" else (server, self.holders[role])
                message = Message(kind=kind, payload_bytes=payload_bytes, workload=crowd.name, label=label)
                sent.append(self.world.env.process(carry(self.world, wire, *ends, message)))
        yield self.world.env.all_of(sent)


class _Watch:
    """Tells when one of some devices has been down for too long.

    Args:
        world: the devices.
        devices: whom to watch.
        after_s: for how long is too long.
    """

    def __init__(self, world: World, devices: Sequence[str], after_s: float) -> None:
        self._world = world
        self._after_s = after_s
        self._open = True
        self.lost = world.env.event()
        for number, device in enumerate(devices):
            if not world.is_up(device) or math.isfinite(world.next_change_s(device)):
                world.env.process(self._look_at(number, device))

    def close(self) -> None:
        """Look no longer."""
        self._open = False

    def _look_at(self, number: int, device: str) -> Process:
        world = self._world
        while self._open:
            left_s = world.next_change_s(device) - world.now
            if world.is_up(device):
                if math.isinf(left_s):
                    return
                yield world.sleep(left_s)
                continue
            yield world.sleep(min(left_s, self._after_s))
            if self._open and left_s >= self._after_s and not self.lost.triggered:
                self.lost.succeed(number)
                return
