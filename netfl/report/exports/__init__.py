"""A run's trace in the formats of other programs, always on the simulated clock."""

from netfl.report.exports.chrome_trace import write_chrome_trace
from netfl.report.exports.event_files import write_event_file
from netfl.report.exports.tables import write_csv, write_parquet
from netfl.report.exports.tracking import write_mlflow

__all__ = ["write_chrome_trace", "write_csv", "write_event_file", "write_mlflow", "write_parquet"]
