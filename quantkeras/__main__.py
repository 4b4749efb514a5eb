"""The command ``quantkeras``, also as ``python -m quantkeras``.

Here and not in ``cli`` so that Ctrl-C is heard while NumPy and the like are still being imported.
"""

import sys


def main() -> int:
    """Run the words of the command line; returns the exit status."""
    try:
        from quantkeras.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("quantkeras: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
