"""``python -m celllm``: a command, in an environment put right, whose failures are one line each.

What a shell, a notebook or a scheduler leaves in the environment must not change or break a command, and what
still goes wrong is said in one line, with the traceback in a file.
"""

import contextlib
import os
import re
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from celllm.errors import FAULTS, errno_of, one_line

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    Its exit status: 0, 2 for what the user can mend, 75 interrupted (the same command resumes), 1 for a fault
    of ours, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in arguments if not word.startswith("-")), "")
    name = f"celllm {verb}".rstrip()
    settle(os.environ)
    sys.unraisablehook, sys.excepthook = _ignore_faults, _ignore_printed_faults
    kept = _continue_log(name)
    stale = _stale_torchrun(os.environ)
    if stale:
        print(f"{name}: {stale}", file=sys.stderr)
        return 2
    try:
        from celllm import cli  # here, for what it imports may fail too

        status = cli.main(arguments)
        if status == 0 and kept is not None:
            kept.unlink(missing_ok=True)
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (`| head`) has gone
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _explain(name, arguments, error)


def settle(environ: MutableMapping[str, str]) -> None:
    """Put right what other programs leave in the environment, before anything reads it."""
    environ["MPLBACKEND"] = "agg"  # figures go to files; a notebook's kernel exports a back end of its own
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    for variable in THREADS:
        if variable in environ and not re.fullmatch(r"\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*)*", environ[variable]):
            del environ[variable]
    home = environ.get("HOME")
    if not home or not os.access(home, os.W_OK):
        for variable in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            environ.setdefault(variable, str(Path(tempfile.gettempdir(), f"celllm-cache-{os.getuid()}")))
    if "TORCHELASTIC_RUN_ID" not in environ and environ.get("WORLD_SIZE", "1") != "1":
        print(f"WORLD_SIZE={environ['WORLD_SIZE']} without torchrun: ignored, one process", file=sys.stderr)
        for variable in RANKS:
            environ.pop(variable, None)
    # A PYTHONPATH with the packages of another Python: none of them can be imported here
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = {
        entry
        for entry in sys.path
        if (found := re.search(r"python(\d+\.\d+)/(?:site|dist)-packages/?$", entry)) and found[1] != own
    }
    sys.path[:] = [entry for entry in sys.path if entry not in others]


def _stale_torchrun(environ: Mapping[str, str]) -> str | None:
    """What to do where the variables of a torchrun that has ended are still set: joining it would hang."""
    if "TORCHELASTIC_RUN_ID" not in environ or environ.get("WORLD_SIZE", "1") == "1":
        return None
    address, port = environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", "")
    try:
        socket.create_connection((address, int(port)), timeout=30).close()
    except (OSError, ValueError, OverflowError):
        names = " ".join(name for name in (*RANKS, "TORCHELASTIC_RUN_ID") if name in environ)
        return f"no torchrun answers at {address}:{port}; unset what an earlier one has left: unset {names}"
    return None


def _continue_log(name: str) -> Path | None:
    """Keep earlier attempts of a job in its log, with a line between the two.

    A workflow removes the log before it repeats a job. A second name of the file survives that, also where
    the job is killed, until the command has succeeded.

    Returns
    -------
    The second name; None where standard error does not go to a file, or belongs to torchrun's processes.
    """
    log = _log_file()
    if log is None or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    kept = log.with_name(f".{log.name}.kept")
    with contextlib.suppress(OSError):  # a full disk, or one without second names, is no reason not to begin
        if kept.exists() and not kept.samefile(log):
            earlier = kept.read_bytes()
            os.write(sys.stderr.fileno(), earlier)
            kept.unlink()
        if log.stat().st_size:
            job = os.environ.get("SLURM_JOB_ID")
            place = socket.gethostname() + (f", SLURM job {job}" if job else "")
            print(f"--- {name} again, {time.strftime('%Y-%m-%d %H:%M:%S')} on {place} ---", file=sys.stderr)
        if not kept.exists():
            os.link(log, kept)
    return kept


def _log_file() -> Path | None:
    """The file that standard error goes to, where it goes to one."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
    except OSError:
        return None
    return path if path.is_file() else None


def _ignore_faults(unraisable: "sys.UnraisableHookArgs") -> None:
    """On a full disk HDF5 complains once for each object it closes; the last line says it all."""
    if unraisable.exc_value is None or errno_of(unraisable.exc_value) not in FAULTS:
        sys.__unraisablehook__(unraisable)


def _ignore_printed_faults(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Cython prints what it ignores as if it had ended the program."""
    if errno_of(error) not in FAULTS:
        sys.__excepthook__(kind, error, trace)


def _explain(name: str, arguments: Sequence[str], error: Exception) -> int:
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    fault = next((one for one in chain if errno_of(one) in FAULTS), None)
    if fault is not None:
        out = arguments[arguments.index("--out") + 1] if "--out" in arguments[:-1] else ""
        path = getattr(fault, "filename", None) or out
        place = Path(path).parent if Path(path).name.startswith(".partial-") else path
        print(f"{name}: {place}: {FAULTS[errno_of(fault) or 0]}", file=sys.stderr)
        return 2
    hint = ""
    if isinstance(error, ImportError) and os.environ.get("PYTHONPATH"):
        hint = f"; PYTHONPATH={os.environ['PYTHONPATH']} comes before the installed packages: unset it"
    elif isinstance(error, ImportError):
        hint = "; is the environment complete? (make setup, or --use-conda)"
    said = f"{name}: unexpected {type(error).__name__}: {one_line(error)[:300]}{hint}"
    # The traceback goes beside the log where there is one, else into the folder for temporary files
    text = f"{name}\n{' '.join(sys.argv)}\n" + "".join(traceback.format_exception(error))
    log, stamp = _log_file(), time.strftime("%Y%m%d-%H%M%S")
    places = [Path(f"{log}.traceback")] if log else []
    with contextlib.suppress(OSError):
        places.append(Path(tempfile.gettempdir(), f"celllm-traceback-{stamp}-{os.getpid()}.txt"))
    saved = f"nowhere to write it\n{text}"
    for place in places:
        with contextlib.suppress(OSError):
            place.write_text(text, encoding="utf-8", errors="backslashreplace")
            saved = str(place)
            break
    print(f"{said} (traceback: {saved})", file=sys.stderr)
    return 1


def run() -> NoReturn:
    """Run the command line's command and leave with its status."""
    status = main()
    if status == 2:
        # Without the clean-up at exit: HDF5 closes its files once more there, and crashes on a full disk.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
