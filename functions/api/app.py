"""HTTP in, HTTP out. The thinking is in mechaway_core."""

from mechaway_core import aws

handler = aws.api_handler()  # once per cold start
