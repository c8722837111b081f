"""`python -m pixmend` is the command `pixmend`."""

import sys

from pixmend.cli import main

if __name__ == "__main__":
    sys.exit(main())
