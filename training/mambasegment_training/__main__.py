"""`python -m mambasegment_training` is the command `mambatrain`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
