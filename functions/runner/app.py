"""What the clock starts, and what runs on when nobody waits. The thinking is in mechaway_core."""

from mechaway_core import aws

handler = aws.runner_handler()  # once per cold start
