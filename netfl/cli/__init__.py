"""The command line: thin shells over the public Python calls.

Results go to stdout and nothing else does; messages and progress go to stderr.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys

from netfl.memory import OBJECTS

__all__ = ["main"]


def main() -> None:
    """What the command `netfl` calls. An interrupt at any time ends it with exit code 130 and without a traceback."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # A million objects come with the imports, and stay: looking for cycles among them, again at the end, takes a second.
    gc.set_threshold(OBJECTS)
    atexit.register(gc.freeze)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        from click.exceptions import Abort, ClickException

        from netfl.cli.commands import cli

        try:
            cli(standalone_mode=False)
        except ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except Abort:
            raise KeyboardInterrupt from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
