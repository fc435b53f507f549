"""python -m lmaps_fast: the command line where its script is not on the PATH."""

import sys

from lmaps_fast.apps.cli import main

sys.exit(main())
