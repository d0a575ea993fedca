"""``python -m d2lrnn``: the command line."""

import sys

from d2lrnn.cli import main

sys.exit(main())
