"""The one exception for mistakes that a user can fix."""


class UserError(Exception):
    """Bad input, reported in one line: the file, key or cell, what was expected, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """
