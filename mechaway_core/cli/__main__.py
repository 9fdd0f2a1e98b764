"""`python -m mechaway_core.cli`."""

from mechaway_core.cli import main

main()
