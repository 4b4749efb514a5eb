"""``python -m quantkeras`` is the command ``quantkeras``."""

import sys

from quantkeras.cli import main

if __name__ == "__main__":
    sys.exit(main())
