"""The compiled core at the instruction-set level chosen for this process; ``core.pyi`` declares what it holds.

The module replaces itself by the extension, which carries its name.
"""

import sys

from diffeo._support import instruction_set

sys.modules[__name__] = instruction_set.load_core(__name__)
