"""`python -m s1pro` is the command `s1pro`."""

from __future__ import annotations

import sys

from s1pro.cli import main

if __name__ == "__main__":
    sys.exit(main())
