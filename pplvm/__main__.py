"""`python -m pplvm`."""

import sys

from pplvm.cli import main

if __name__ == "__main__":
    sys.exit(main())
