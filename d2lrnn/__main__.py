"""``d2lrnn``, and ``python -m d2lrnn``: the command line."""

import sys

from d2lrnn.errors import INTERRUPTED


def run() -> int:
    """Runs the command line of the process; Ctrl-C while its modules are imported gives no traceback."""
    try:
        from d2lrnn.cli.main import main

        return main()
    except KeyboardInterrupt:
        print("d2lrnn: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
