"""`python -m pplvm`, without the working directory, which -m puts first on the search path for modules."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]
    from pplvm.commands.entry_point import main

    sys.exit(main())
