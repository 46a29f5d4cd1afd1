"""One module per source: it knows the layout of its files and nothing else.

Each has ``Options`` (its settings), ``FILES`` and ``OPTIONAL_FILES`` (names of its files) and
``read(files, options) -> RawCells``.
"""
