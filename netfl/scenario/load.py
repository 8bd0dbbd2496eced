"""Files into scenarios: parents merged, topology files grafted in, overrides applied, then everything checked at once.

Overrides of settings come before a `generate` or `import` block is unfolded, those of single devices, links and media after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from netfl.errors import Problem, ScenarioError
from netfl.network.importers import is_foreign
from netfl.network.transport import TRANSPORTS
from netfl.parts import nearest
from netfl.randomness import Streams
from netfl.scenario.expand import Built, build_topology, unfold
from netfl.scenario.reader import read, to_plain
from netfl.scenario.schema import Scenario, TopologyFile
from netfl.scenario.topologies import form_of, unfold_topology
from netfl.scenario.tree import Mark, PathKey, Tree, load_file, load_text, parse_path
from netfl.workloads import WORKLOADS, Setting

__all__ = ["Loaded", "from_folder", "is_topology", "load", "load_scenario", "load_topology", "to_yaml"]

_MOST_PARENTS = 20


@dataclass(frozen=True)
class Loaded:
    """A scenario that has passed every check that needs neither data nor torch.

    Args:
        scenario: the settings.
        built: its topology.
        tree: where each setting stood; empty for a scenario made in Python.
        given: the text of the file as it was given; None for a scenario made in Python.
    """

    scenario: Scenario
    built: Built
    tree: Tree
    given: str | None

    def problem(self, path: PathKey, message: str, hint: str = "") -> Problem:
        """A problem with a setting, and its place."""
        return self.tree.problem(message, path, hint)

    def single(self) -> Loaded:
        """The scenario as it stands, without its sweep."""
        return replace(self, scenario=replace(self.scenario, sweep=None))


def load(
    source: str | Path | Scenario | Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    places: Mapping[str, Mark] | None = None,
) -> Loaded:
    """Read a scenario and check it.

    Args:
        source: path of a scenario file, a mapping of its contents, or a scenario made in Python.
        settings: path of a setting (`workloads.training.rounds`) to its value, as in YAML.
        overrides: the same as `path=value` texts, the value being YAML; errors call them `--set #1`, `--set #2`.
        places: where the settings of these paths came from, for errors.

    Raises:
        ScenarioError: everything that is wrong, at once.
    """
    given = None
    if isinstance(source, Scenario):
        tree = Tree(to_plain(source))
    elif isinstance(source, Mapping):
        tree = Tree(_copied(source))
        _resolve_files(tree.value, Path())
        _graft_topology(tree, Path())
    else:
        path = Path(source)
        tree = _load_tree(path, ())
        given = tree.text
    given_settings = [_assignment(text, f"--set #{number}") for number, text in enumerate(overrides, 1)]
    for name, value in (settings or {}).items():
        place = (places or {}).get(name, Mark(f"setting '{name}'", 1, 1))
        given_settings.append(_assigned(name, Tree(_copied(value), {(): place}), place.file))
    try:
        _settle(tree, given_settings, ("topology",))
    except ScenarioError as error:
        raise ScenarioError(*error.problems, *_other_problems(tree)) from None
    _name_servers(tree)
    _place_data(tree)
    try:
        scenario = read(Scenario, tree)
    except ScenarioError as error:
        raise ScenarioError(*error.problems, *_topology_problems(tree)) from None
    built, found = build_topology(scenario.topology)
    problems = [tree.problem(message, ("topology", *path), hint) for path, message, hint in found]
    problems += _network_problems(scenario, tree)
    if built is not None:
        problems += [tree.problem(message, ("network",)) for message in scenario.network.problems(built.topology)]
        problems += _workload_problems(scenario, built, tree)
    if built is None or problems:
        raise ScenarioError(*problems)
    return Loaded(scenario, built, tree, given)


def load_scenario(path: str | Path) -> Scenario:
    """The scenario of a file, checked.

    Raises:
        ScenarioError: everything that is wrong, at once.
    """
    return load(path).scenario


def load_topology(path: str | Path, overrides: Sequence[str] = ()) -> Built:
    """The topology of a file, checked: netfl's YAML, GraphML, node-link JSON, as-rel lines.

    Args:
        path: of the file.
        overrides: settings as `path=value` texts, the value being YAML.

    Raises:
        ScenarioError: everything that is wrong, at once.
    """
    tree = _topology_tree(Path(path), str(path))
    _settle(tree, [_assignment(text, f"--set #{number}") for number, text in enumerate(overrides, 1)], ())
    built, found = build_topology(read(TopologyFile, tree))
    if built is None:
        raise ScenarioError(*(tree.problem(message, where, hint) for where, message, hint in found))
    return built


def is_topology(path: str | Path) -> bool:
    """Whether a file describes a topology rather than a scenario."""
    if _is_file(Path(path)) and is_foreign(Path(path)):
        return True
    value = load_file(Path(path), str(path)).value
    return isinstance(value, dict) and ("devices" in value or form_of(value) is not None) and "workloads" not in value


def from_folder(path_text: str, value: Any, folder: Path) -> Any:
    """A setting's value with the paths of files in it made absolute, counted from a folder."""
    path = tuple(path_text.split("."))
    value = _copied(value)
    if isinstance(value, str):
        block = _FILE_BLOCKS.get(path[-2], ()) if len(path) > 1 else ()
        is_data = path[:2] == ("data", "source") and path[-1].endswith("path")
        if value and (path in (("topology",), ("topology", "import")) or path[-1] in block or is_data):
            return str((folder / value).absolute())
        return value
    tree = Tree({path[-1]: value})
    _resolve_files(tree.value, folder)
    if isinstance(value, dict) and path == ("topology",) and isinstance(value.get("import"), str):
        value["import"] = str((folder / value["import"]).absolute())
    if isinstance(value, dict) and path == ("data", "source"):
        for name, each in value.items():
            if name.endswith("path") and isinstance(each, str) and each:
                value[name] = str((folder / each).absolute())
    return value


def to_yaml(scenario: Scenario) -> str:
    """A scenario as YAML with every default written out; loading it gives an equal scenario."""
    return yaml.safe_dump(to_plain(scenario), sort_keys=False, allow_unicode=True, width=120)


_STAND_IN = {"schema": 1, "name": "stand-in", "devices": {"cloud": {"profile": "mini-pc"}}, "links": {}}


def _other_problems(tree: Tree) -> tuple[Problem, ...]:
    """What is wrong with a scenario beside its topology, which cannot be unfolded."""
    if not isinstance(tree.value, dict) or "topology" not in tree.value:
        return ()
    rest = Tree({**tree.value, "topology": _STAND_IN}, tree.marks, tree.key_marks)
    try:
        read(Scenario, rest)
    except ScenarioError as error:
        return error.problems
    return ()


def _topology_problems(tree: Tree) -> list[Problem]:
    """What is wrong with the topology of a scenario that cannot be read for other reasons; nothing if it cannot be read itself."""
    if not isinstance(tree.value, dict) or not isinstance(tree.value.get("topology"), dict):
        return []
    try:
        file = read(TopologyFile, tree.branch(("topology",)))
    except ScenarioError:
        return []
    _, found = build_topology(file)
    return [tree.problem(message, ("topology", *path), hint) for path, message, hint in found]


def _network_problems(scenario: Scenario, tree: Tree) -> list[Problem]:
    """What the transport cannot do on these links."""
    if scenario.network.models_loss:
        return []
    kind = TRANSPORTS.kind_of(scenario.network)
    return [
        tree.problem(
            f"transport '{kind}' knows no loss of packets", ("topology", "links", name, setting), "use `network: tcp`, or `datagram`"
        )
        for name, block in scenario.topology.links.items()
        for setting in ("loss", "uplink_loss", "downlink_loss", "loss_bursts")
        if getattr(block, setting)
    ]


def _workload_problems(scenario: Scenario, built: Built, tree: Tree) -> list[Problem]:
    problems = []
    has_task = scenario.data is not None and scenario.model is not None
    setting = Setting(built.topology, built.profiles, scenario.workloads, has_task)
    for name, workload in scenario.workloads.items():
        problems += [tree.problem(message, ("workloads", name, *path)) for path, message in workload.problems(setting)]
    if not scenario.workloads:
        problems.append(tree.problem("expected at least one workload", ("workloads",)))
    elif scenario.stop.after is None and not any(workload.ends for workload in scenario.workloads.values()):
        problems.append(tree.problem("nothing ends this run: no workload ends by itself", ("stop",), "add `stop: {after: 10 min}`"))
    if scenario.stop.accuracy is not None and not any(workload.role == "training" for workload in scenario.workloads.values()):
        problems.append(tree.problem("no workload trains, so no accuracy is ever reached", ("stop", "accuracy")))
    return problems


# --- trees ------------------------------------------------------------------------------------------------------------------


def _load_tree(path: Path, parents: tuple[Path, ...]) -> Tree:
    """The tree of a file with its parents merged in and its topology file grafted."""
    tree = load_file(path, str(path))
    if not isinstance(tree.value, dict):
        raise ScenarioError(tree.problem("expected a block of settings"))
    names_a_file = isinstance(tree.value.get("topology"), str)
    _resolve_files(tree.value, path.parent)
    _graft_topology(tree, path.parent)
    if "extends" not in tree.value:
        return tree
    parent = tree.value["extends"]
    if not isinstance(parent, str):
        raise ScenarioError(tree.problem("expected the path of a scenario file", ("extends",)))
    above = (*parents, path.resolve())
    parent_path = path.parent / parent
    if parent_path.resolve() in above:
        chain = " -> ".join(each.name for each in (*above, parent_path))
        raise ScenarioError(tree.problem(f"a loop: {chain}", ("extends",)))
    if len(above) > _MOST_PARENTS:
        raise ScenarioError(tree.problem(f"more than {_MOST_PARENTS} parents", ("extends",)))
    if not _is_file(parent_path):
        raise ScenarioError(tree.problem(f"no such file: '{parent}' (looked for {parent_path})", ("extends",)))
    merged = _load_tree(parent_path, above)
    if names_a_file:
        merged.value.pop("topology", None)
    _merge(merged, tree, ())
    merged.value.pop("extends", None)
    return merged


def _merge(base: Tree, over: Tree, path: PathKey) -> None:
    """Lay one tree over another: blocks merge setting by setting unless their kinds differ; all else is replaced."""
    base_value, over_value = _at(base.value, path), _at(over.value, path)
    for key, value in over_value.items():
        there = (*path, key)
        below = base_value.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and _is_same_sort(value, below):
            _merge(base, over, there)
        else:
            base.graft(there, over.branch(there))
        if there in over.key_marks:
            base.key_marks[there] = over.key_marks[there]


def _is_same_sort(over: dict[str, Any], below: dict[str, Any]) -> bool:
    """Whether a block goes on with another rather than replacing it: the same kind, for topologies the same shape or file."""
    if form_of(below) is not None and form_of(over) is None and "links" in over:
        return False
    return all(over[name] == below.get(name) for name in ("kind", "generate", "import") if name in over)


def _graft_topology(tree: Tree, folder: Path) -> None:
    """Put the topology file where its path stands, and make the path of an import one that holds from here."""
    if not isinstance(tree.value, dict):
        return
    given = tree.value.get("topology")
    if isinstance(given, str):
        path = folder / given
        if not _is_file(path):
            raise ScenarioError(tree.problem(f"no such file: '{given}' (looked for {path})", ("topology",)))
        mark = tree.mark(("topology",)) or Mark("", 0, 0)
        branch = _topology_tree(path, str(path))
        if is_foreign(path):
            branch.marks = {(): mark, ("import",): mark}
        tree.graft(("topology",), branch)
    elif isinstance(given, dict) and isinstance(given.get("import"), str):
        given["import"] = str(folder / given["import"])


_FILE_BLOCKS = {"rate_trace": ("file", "down_file"), "outages": ("file",), "arrivals": ("file",)}
"""Blocks that name files: block to the settings that are paths."""


def _resolve_files(value: Any, folder: Path) -> None:
    """Make the paths of recorded traces absolute: they count from the folder of the file that names them."""
    if isinstance(value, list):
        for each in value:
            _resolve_files(each, folder)
    if not isinstance(value, dict):
        return
    for key, each in value.items():
        for setting in _FILE_BLOCKS.get(key, ()):
            if isinstance(each, dict) and isinstance(each.get(setting), str):
                each[setting] = str((folder / each[setting]).absolute())
        _resolve_files(each, folder)


def _topology_tree(path: Path, shown: str) -> Tree:
    """The tree of a topology file. What it imports must lie in its own folder: a file that came from elsewhere names no other place."""
    if _is_file(path) and is_foreign(path):
        return Tree({"import": shown}, {(): Mark(shown, 0, 0)})
    tree = load_file(path, shown)
    named = tree.value.get("import") if isinstance(tree.value, dict) else None
    if isinstance(named, str):
        target = path.parent / named
        if not target.resolve().is_relative_to(path.parent.resolve()):
            hint = "put the file there, or import it from the scenario itself"
            raise ScenarioError(tree.problem(f"a topology file imports only from its own folder, not '{named}'", ("import",), hint))
        tree.value["import"] = str(target)
    _resolve_files(tree.value, path.parent)
    return tree


# --- settings from outside --------------------------------------------------------------------------------------------------

_PARTS = ("devices", "links", "media")


@dataclass(frozen=True)
class _Assignment:
    """A value and the path to put it at.

    Args:
        text: the path as given.
        path: its steps.
        branch: the value.
        label: how errors call where it came from.
    """

    text: str
    path: PathKey
    branch: Tree
    label: str


def _place_data(tree: Tree) -> None:
    """Make the paths of local data absolute: a relative one is meant from the file in which it stands, else from the working folder."""
    source = tree.value.get("data") if isinstance(tree.value, dict) else None
    source = source.get("source") if isinstance(source, dict) else None
    if not isinstance(source, dict):
        return
    for name, value in source.items():
        if name.endswith("path") and isinstance(value, str) and value:
            mark = tree.mark(("data", "source", name))
            folder = Path(mark.file).parent if mark is not None and _is_file(Path(mark.file)) else Path()
            source[name] = str((folder / value).absolute())


def _assignment(text: str, label: str) -> _Assignment:
    path_text, equals, value_text = text.partition("=")
    if not equals:
        raise ScenarioError(Problem(f"expected `path=value`, got '{text}'", file=label))
    return _assigned(path_text.strip(), load_text(value_text if value_text.strip() else "''", label), label)


def _assigned(path_text: str, branch: Tree, label: str) -> _Assignment:
    try:
        path = parse_path(path_text)
    except ValueError as error:
        raise ScenarioError(Problem(str(error), file=label)) from None
    if path[-1] in _FILE_BLOCKS:
        _resolve_files({path[-1]: branch.value}, Path())
    elif len(path) > 1 and path[-1] in _FILE_BLOCKS.get(str(path[-2]), ()) and isinstance(branch.value, str):
        branch.value = str(Path(branch.value).absolute())
    else:
        _resolve_files(branch.value, Path())
    for mark_path in [(), *branch.marks]:
        branch.marks.setdefault(mark_path, Mark(label, 1, 1))
    return _Assignment(path_text, path, branch, label)


def _settle(tree: Tree, assignments: Sequence[_Assignment], at: PathKey) -> None:
    """Put all values in, and unfold the topology at `at` before those of its single devices, links and media."""
    later: list[_Assignment] = []
    for each in assignments:
        inside = each.path[len(at) :] if each.path[: len(at)] == at else ()
        if len(inside) >= 2 and inside[0] in _PARTS:
            later.append(each)
            continue
        if each.path == at:
            later.clear()
        _put(tree, each)
    topology = tree.value if not at else tree.value.get(at[0]) if isinstance(tree.value, dict) else None
    unfolded = form_of(topology) is not None
    changes: list[_Assignment] = []
    if unfolded:
        seed, replicate = (_whole(tree.value, name) if at else 0 for name in ("seed", "replicate"))
        mark = tree.mark((*at, "change")) or Mark("", 0, 0)
        for name, value in unfold_topology(tree, at, Streams(seed, replicate)).items():
            changes.append(_change(name, value, at, mark))
    for each in [*changes, *later]:
        _single_out(tree, each, at)
        if each.branch.value is None and len(each.path) == len(at) + 2:
            _take_away(tree, each, at)
        else:
            _put(tree, each)
    if unfolded and (changes or later):
        topology = _at(tree.value, at)
        told = ", ".join(f"`{'.'.join(map(str, each.path[len(at) :]))}`" for each in [*changes, *later])
        topology["filled"] = [*topology["filled"], f"changed afterwards: {told}"]


def _change(name: str, value: Any, at: PathKey, mark: Mark) -> _Assignment:
    """An entry of a block's `change`."""
    try:
        inside = parse_path(name)
    except ValueError as error:
        raise ScenarioError(Problem(str(error), "change", mark.file, mark.line, mark.column, source=mark.source)) from None
    if len(inside) < 2 or inside[0] not in _PARTS:
        message = f"expected the path of a device, link or medium such as 'links.4-7.rate', got '{name}'"
        raise ScenarioError(Problem(message, "change", mark.file, mark.line, mark.column, source=mark.source))
    return _Assignment(name, (*at, *inside), Tree(value, {(): mark}), mark.file)


def _single_out(tree: Tree, each: _Assignment, at: PathKey) -> None:
    """Make the device, link or medium that a path goes into an entry of its own if it stands in a range of names.

    Raises:
        ScenarioError: nothing has that name, and the path does not put something whole there.
    """
    inside = each.path[len(at) :]
    is_new = len(inside) == 2 and each.branch.value is not None
    if len(inside) < 2 or not isinstance(inside[1], str):
        return
    section, name = str(inside[0]), inside[1]
    topology = _at(tree.value, at)
    entries = topology.get(section) if isinstance(topology, dict) else None
    if not isinstance(entries, dict) or name in entries:
        return
    names: list[str] = []
    for key in entries:
        try:
            unfolded = unfold(key)
        except ValueError:
            continue
        if name in unfolded:
            topology[section] = _with_range_unfolded(entries, key, unfolded)
            return
        names += unfolded[:1000]
    if is_new:
        return
    what = {"devices": "device", "links": "link", "media": "medium"}[section]
    mark = each.branch.marks[()]
    raise ScenarioError(Problem(f"no {what} '{name}'", each.text, each.label, mark.line, mark.column, nearest(name, names), mark.source))


def _take_away(tree: Tree, each: _Assignment, at: PathKey) -> None:
    """Remove a device, link or medium; a device's links go with it."""
    section, name = each.path[len(at) :]
    topology = _at(tree.value, at)
    entries = topology.get(section) if isinstance(topology, dict) else None
    if not isinstance(entries, dict) or name not in entries:
        return
    del entries[name]
    links = topology.get("links")
    if section != "devices" or not isinstance(links, dict):
        return
    for key in [key for key, link in links.items() if isinstance(link, dict) and _ends_at(link.get("between"), str(name))]:
        ends = [unfold(end) for end in links[key]["between"]]
        numbered = _with_range_unfolded({key: links[key]}, key, unfold(key)) if max(map(len, ends)) > 1 else {key: links[key]}
        kept = {single: entry for single, entry in numbered.items() if name not in entry["between"]}
        topology["links"] = links = {
            other: entry for old, value in links.items() for other, entry in (kept.items() if old == key else [(old, value)])
        }


def _ends_at(between: Any, name: str) -> bool:
    """Whether a link, or one of those that its range stands for, ends at a device."""
    if not isinstance(between, list):
        return False
    try:
        return any(isinstance(end, str) and name in unfold(end) for end in between)
    except ValueError:
        return False


def _with_range_unfolded(entries: dict[str, Any], key: str, names: list[str]) -> dict[str, Any]:
    """The entries with one range of names written out, the ends of links along with it."""
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        if name != key:
            found[name] = entry
            continue
        for index, single in enumerate(names):
            found[single] = _copied(entry)
            ends = entry.get("between") if isinstance(entry, dict) else None
            if isinstance(ends, list):
                found[single]["between"] = [_end(end, index) for end in ends]
    return found


def _end(end: Any, index: int) -> Any:
    try:
        unfolded = unfold(end)
    except (TypeError, ValueError):
        return end
    return unfolded[min(index, len(unfolded) - 1)]


def _put(tree: Tree, each: _Assignment) -> None:
    """Put a value at its path, making blocks on the way where there are none."""
    value = tree.value
    for index, step in enumerate(each.path):
        inside = each.path[:index]
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                raise ScenarioError(Problem(f"there is no entry [{step}]", each.text, file=each.label))
        elif not isinstance(value, dict):
            raise ScenarioError(Problem(f"'{'.'.join(map(str, inside))}' is not a block of settings", each.text, file=each.label))
        if index == len(each.path) - 1:
            break
        if not isinstance(step, int) and step not in value:
            value[step] = {}
            tree.marks[each.path[: index + 1]] = Mark(each.label, 1, 1)
        value = value[step]
    tree.graft(each.path, each.branch)
    tree.key_marks[each.path] = each.branch.marks[()]
    if each.path == ("topology",):
        _graft_topology(tree, Path())


def _whole(value: Any, name: str) -> int:
    """A whole number of the scenario, or 0 where the reader will refuse it anyway."""
    number = value.get(name, 0)
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else 0


def _name_servers(tree: Tree) -> None:
    """Have workloads that name no server use the only device of tier `cloud` where none is called so."""
    if not isinstance(tree.value, dict):
        return
    topology, workloads = tree.value.get("topology"), tree.value.get("workloads")
    devices = topology.get("devices") if isinstance(topology, dict) else None
    if not isinstance(devices, dict) or not isinstance(workloads, dict) or "cloud" in devices:
        return
    clouds = [name for name, block in devices.items() if isinstance(block, dict) and block.get("tier") == "cloud"]
    if len(clouds) != 1 or "{" in clouds[0]:
        return
    for workload in workloads.values():
        kind = workload.get("kind") if isinstance(workload, dict) else None
        if isinstance(kind, str) and kind in WORKLOADS.kinds() and "server" in getattr(WORKLOADS.find(kind), "__dataclass_fields__", {}):
            workload.setdefault("server", clouds[0])


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _at(value: Any, path: PathKey) -> Any:
    for step in path:
        value = value[step]
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list | tuple) else value
