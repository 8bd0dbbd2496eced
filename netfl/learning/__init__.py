"""Learning: data and who has it, models, local training of many clients at once, aggregation.

Nothing here sees a clock. `values` wraps the pure functions of the other modules as recipes.
"""

from netfl.learning.aggregators import AGGREGATORS, Aggregated, Aggregator, Contributions, Mean
from netfl.learning.data import DATA, Dataset, DataSource, Digits
from netfl.learning.models import MODELS, Cnn, Mlp, Model
from netfl.learning.partition import PARTITIONS, Partition
from netfl.learning.select import SELECTORS, Selector, Uniform
from netfl.learning.trainer import TRAINERS, FitJob, FitResult, Sgd, Trainer, evaluate, fit

__all__ = [
    "AGGREGATORS",
    "DATA",
    "MODELS",
    "PARTITIONS",
    "SELECTORS",
    "TRAINERS",
    "Aggregated",
    "Aggregator",
    "Cnn",
    "Contributions",
    "DataSource",
    "Dataset",
    "Digits",
    "FitJob",
    "FitResult",
    "Mean",
    "Mlp",
    "Model",
    "Partition",
    "Selector",
    "Sgd",
    "Trainer",
    "Uniform",
    "evaluate",
    "fit",
]
