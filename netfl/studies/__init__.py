"""Running scenarios: one by one, and later many."""

from netfl.studies.run import Interrupt, InterruptedRunError, Run, new_run_folder, run, run_folder, run_loaded

__all__ = ["Interrupt", "InterruptedRunError", "Run", "new_run_folder", "run", "run_folder", "run_loaded"]
