"""Runs tests and programs that others wrote with `ChatSegmindLlama`: `make compat`."""
