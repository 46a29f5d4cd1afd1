"""The CellLM benchmark: from raw public data to every table and figure of one paper."""

__version__ = "0.1.0"
