"""Projects on the move: out of one installation into a file, and from a file into another.

`archive` is the file and its bounds, `passphrase` locks the secrets in it, `outgoing` writes one over the ports, `incoming` reads one
and sees to it that a project comes in whole or not at all.
"""

from mechaway_core.transfer.incoming import Incoming
from mechaway_core.transfer.outgoing import Outgoing, Summary

__all__ = ["Incoming", "Outgoing", "Summary"]
