"""The one exception for mistakes that a user can fix, and what to do about faults of the machine."""

import errno
import re


class UserError(Exception):
    """Bad input, reported in one line: the file, key or cell, what was expected, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class NotTrainedError(UserError):
    """An encoder was asked for whose pre-training failed; its file holds the reason."""


FAULTS = {
    errno.ENOSPC: "the disk is full; make room, then run the same command again",
    errno.EDQUOT: "the disk quota is used up; make room, then run the same command again",
    errno.EFBIG: "the file is larger than allowed here; raise the limit (ulimit -f unlimited)",
    errno.EROFS: "the file system is read-only; choose a place that can be written to",
    errno.EACCES: "permission denied; choose a place that you may read and write",
    errno.EPERM: "operation not permitted; choose a place that you may read and write",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096)",
    errno.EIO: "the disk reports an input/output error",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ESTALE: "the network file system lost the file; run the same command again",
}
"""The machine's faults, to be mended by whoever owns it."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Those of them that only writing meets."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def errno_of(error: BaseException) -> int | None:
    """Number of an operating system's error; libraries keep it in their text, or only its words."""
    text = str(error)
    if found := re.search(r"\b(?:os error |errno = )(\d+)", text):
        return int(found[1])
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    words = {"No space left on device": errno.ENOSPC, "File too large": errno.EFBIG}
    return next((number for said, number in words.items() if said in text), None)
