"""``python -m d2lrnn``: the command line."""

import sys

from d2lrnn.cli.main import main

sys.exit(main())
