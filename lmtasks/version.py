"""The version of the package, which records and cache keys hold."""

__version__ = "0.1.0"
