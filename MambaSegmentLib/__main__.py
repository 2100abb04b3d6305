"""`python -m MambaSegmentLib` is `mambasegment`."""

import sys

from .cli import main

sys.exit(main())
