"""Slicing: a network's hidden units dealt to many devices, which train it together without seeing each other's values.

Chen, Jung, Du, Qian, Hou and Li, "Crowdlearning: Crowded deep learning with data privacy" (SliceNet), IEEE SECON 2018; a
re-implementation from the paper.

Roles are numbers: 0 is the dominator, who holds the data, the input layer and the output layer; 1 to n are the followers, each of whom
holds one slice of the hidden layers.
"""

from netfl.learning.slicing.graph import SliceGraph, slice_graph
from netfl.learning.slicing.partitioners import PARTITIONERS, Even, KernighanLin, Metis, Partitioner
from netfl.learning.slicing.units import UnitLayer, UnitNet

__all__ = [
    "PARTITIONERS",
    "Even",
    "KernighanLin",
    "Metis",
    "Partitioner",
    "SliceGraph",
    "UnitLayer",
    "UnitNet",
    "slice_graph",
]
