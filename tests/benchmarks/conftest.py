"""The benchmarks are scripts of the checkout: they find each other beside them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
