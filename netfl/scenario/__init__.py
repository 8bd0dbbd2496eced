"""The scenario language: YAML files into frozen scenarios, and scenarios into sessions that run."""

from netfl.scenario.load import Loaded, from_folder, is_topology, load, load_scenario, load_topology, to_yaml
from netfl.scenario.schema import Scenario, Sweep, TopologyFile

__all__ = ["Loaded", "Scenario", "Sweep", "TopologyFile", "from_folder", "is_topology", "load", "load_scenario", "load_topology", "to_yaml"]
