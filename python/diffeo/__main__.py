"""``python -m diffeo`` is the command ``diffeo``."""

import sys

from diffeo.cli import main

sys.exit(main())
