"""The trace of a run: row types, and their writer."""

from netfl.trace.rows import (
    ROW_TYPES,
    Computation,
    DeviceUse,
    Evaluation,
    LinkUse,
    NoisySums,
    Outage,
    Release,
    Request,
    Round,
    RunEnd,
    Setback,
    Transfer,
    Wait,
    Workload,
)
from netfl.trace.writer import Trace

__all__ = [
    "ROW_TYPES",
    "Computation",
    "DeviceUse",
    "Evaluation",
    "LinkUse",
    "NoisySums",
    "Outage",
    "Release",
    "Request",
    "Round",
    "RunEnd",
    "Setback",
    "Trace",
    "Transfer",
    "Wait",
    "Workload",
]
