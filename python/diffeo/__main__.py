"""``python -m diffeo`` is the command ``diffeo``."""

import sys

from diffeo.cli.parser import main

sys.exit(main())
