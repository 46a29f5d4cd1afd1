"""The one place where processes of a training are started: as many as there are GPUs, through torchrun."""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import torch

from celllm.errors import UserError
from celllm.interruption import EXIT_INTERRUPTED
from celllm.settings import Settings

log = logging.getLogger(__name__)


def n_processes(gpus: int, processes: int) -> int:
    """How many processes to start: ``processes`` where that is given, else one for each GPU, at least one.

    Raises :class:`UserError` for more GPUs than PyTorch finds; one that is not there may be a laptop's, see
    :func:`celllm.model.embedder.find_device`.
    """
    found = torch.cuda.device_count()
    if gpus > 1 and found < gpus:
        raise UserError(f"{gpus} GPUs asked for, PyTorch finds {found}: ask for fewer, or mend its CUDA")
    return processes or max(1, gpus)


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is to write files: of those of torchrun the first, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def start(n: int, verb: str, arguments: Mapping[str, Any]) -> int:
    """Run a command in ``n`` processes on this machine, with the threads shared out among them.

    The command is ``celllm VERB`` with these arguments by name, but for those that are None; the variables of
    torchrun tell each process its place. Returns 0, :data:`EXIT_INTERRUPTED` where a signal asked to stop, or
    the status of the first process that failed.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // n))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a page for each process that ends
    signals = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    command = f"--standalone --nproc-per-node {n} --signals-to-handle {signals} -m celllm {verb}".split()
    for name, value in arguments.items():
        if value is not None:
            text = value.model_dump_json() if isinstance(value, Settings) else str(value)
            command += [f"--{name.replace('_', '-')}", text]
    try:
        run(parse_args(command))
    except SignalException as stopped:
        log.warning("%s: the processes were stopped", signal.Signals(stopped.sigval).name)
        return EXIT_INTERRUPTED
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(
                f"celllm {verb}: process {rank} of {n} was ended by {name}; the same command resumes",
                file=sys.stderr,
            )
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0
