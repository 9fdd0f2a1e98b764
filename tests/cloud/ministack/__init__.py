"""Ministack, an emulator of AWS, as the tests of the cloud need it: on loopback, and with what it gets wrong mended in memory.

It has an environment of its own, `.venv-cloud`, because it pins libraries that we do not want to be pinned. Nothing here is
imported by tests; `python -m tests.cloud.ministack` is a program that `tests/cloud/emulator.py` starts.
"""
