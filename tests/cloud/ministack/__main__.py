"""Serve until told to stop: `python -m tests.cloud.ministack FOLDER`, settings in the environment.

The folder becomes the current one before anything is imported, so that functions, which run as children of this process, never
find the sources of the repository: what they import has to come from their own package and layers.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Mend ministack and run it."""
    os.chdir(sys.argv[1])
    from tests.cloud.ministack.mends import mend

    mend()
    # Ministack reads the command line, and the first folder of the path is the repository.
    sys.argv[1:], sys.path[0] = [], sys.argv[1]
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
