"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("langchain-segmind")
except PackageNotFoundError:  # Run from a source tree that is not installed.
    VERSION = "0"
