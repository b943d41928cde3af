"""``python -m rtserver``."""

import sys

from rtserver.cli import main

if __name__ == "__main__":
    sys.exit(main())
