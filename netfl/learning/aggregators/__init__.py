"""Aggregators: what the server makes of the updates that clients sent."""

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions
from netfl.learning.aggregators.mean import Mean
from netfl.parts import Family

__all__ = ["AGGREGATORS", "Aggregated", "Aggregator", "Contributions", "Mean"]

AGGREGATORS = Family(
    "aggregators",
    {
        "mean": "netfl.learning.aggregators.mean:Mean",
        "fedavgm": "netfl.learning.aggregators.adaptive:FedAvgM",
        "fedadagrad": "netfl.learning.aggregators.adaptive:FedAdagrad",
        "fedadam": "netfl.learning.aggregators.adaptive:FedAdam",
        "fedyogi": "netfl.learning.aggregators.adaptive:FedYogi",
        "fednova": "netfl.learning.aggregators.corrected:FedNova",
        "scaffold": "netfl.learning.aggregators.corrected:Scaffold",
        "median": "netfl.learning.aggregators.robust:Median",
        "trimmed_mean": "netfl.learning.aggregators.robust:TrimmedMean",
        "krum": "netfl.learning.aggregators.robust:Krum",
        "noisy_mean": "netfl.learning.aggregators.private:NoisyMean",
    },
)
