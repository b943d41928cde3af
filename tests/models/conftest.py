"""The training side is not part of the wheel: it is imported from the checkout."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
