"""What the rule files ask of Python beside the plan: the environment of jobs, and functions of wildcards.

Snakemake calls a function of a rule with what its signature names: wildcards, outputs, resources.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import celllm
from celllm.config import load
from celllm.errors import UserError
from celllm.io import as_json
from celllm.plan import Plan
from celllm.sources.catalogue import Catalogue


def read_plan(files: Sequence[str], changes: Mapping[str, Any], root: Path, storage: Any) -> Plan:
    """Plan of a run, with the environment of its jobs made ready.

    The files of ``--configfile`` are read again: Snakemake takes the last of equal keys without a word, and
    knows no ``add``; ``changes`` are those of ``--config``. ``root`` is the checkout, or the working
    directory of a workflow that uses this one as a module from git; ``storage``, Snakemake's settings of it.
    """
    if storage.default_storage_provider or "INPUT_OUTPUT" not in {
        use.name for use in storage.shared_fs_usage
    }:
        raise UserError(
            "the jobs of this workflow share one file system: leave --default-storage-provider out, and "
            "input-output in --shared-fs-usage; on a machine without one, copy config/ and data/raw/ there "
            "and run all of it there"
        )
    plan = Plan(load(*files, changes=changes, folder=root / "config"))
    # Commands run as `python -m celllm`: from the environment of Snakemake itself, or from the job's conda
    # environment, activated in front of it.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_package_alone(root)), *before]).rstrip(":")
    os.environ["DGLBACKEND"] = "pytorch"
    return plan


def _package_alone(root: Path) -> Path:
    """A folder to import the package from, without what is installed beside it.

    That would hide what the environment of a job holds.
    """
    installed = Path(celllm.__file__).parent
    if installed.parent == root:
        return root
    folder = Path(".snakemake/package").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "celllm"
    if link.resolve() != installed.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(installed)
    return folder


class ToSupply:
    """Files without an address that the planned jobs need and that are not there, with what they are.

    Falsy where there are none, and with a mirror, which has them all.
    """

    def __init__(self, plan: Plan, catalogue_files: Sequence[str | Path]) -> None:
        self.plan = plan
        self.catalogue = None if plan.mirror else Catalogue.read(catalogue_files)
        self.files: dict[str, str] = {}

    def note(self, path: str) -> None:
        """Note a file of the raw folder, if it has to be supplied."""
        if self.catalogue:
            self.files |= self.catalogue.to_supply(self.plan.raw, [path])

    def note_samples(self, source: str) -> None:
        """Note the samples of a source that its table gives no address."""
        if self.catalogue:
            named = [self.plan.raw_files(source, sample) for sample in self.catalogue.table(source)]
            for path in {path for one in named for path in one} - set(self.plan.raw_files(source)):
                self.note(os.path.relpath(path, self.plan.raw))

    def __bool__(self) -> bool:
        return bool(self.files)

    def __str__(self) -> str:
        places = [f"{self.plan.raw}/{path}: {what}" for path, what in sorted(self.files.items())]
        return "\n  ".join([f"{len(places)} files have no address; put there", *places])


def per(method: Callable[..., Any], *arguments: str) -> Callable[[Any], Any]:
    """What a method of the plan answers for a job, as a function of its wildcards; settings become JSON."""

    def answer(wildcards: Any) -> Any:
        value = method(*(argument.format(**wildcards) for argument in arguments))
        return as_json(value) if isinstance(value, dict) else value

    return answer


def unwatched(method: Callable[..., Any], *arguments: str) -> Callable[[Any, Any], Any]:
    """The same for a parameter whose changes run no job again: Snakemake takes it for derived from resources.

    Resource settings reach commands so; what does decide is a parameter of its own, ``science``.
    """
    answer = per(method, *arguments)
    return lambda wildcards, resources: answer(wildcards)


def plain(value: Any) -> Callable[[Any], Any]:
    """A value as a function: in a plain text Snakemake would read braces as wildcards."""
    return lambda wildcards: value


def stem(wildcards: Any, output: Sequence[str]) -> str:
    """What outputs that differ in their ends begin with: the command adds the ends."""
    return os.path.splitext(output[0])[0]


def folder_of(n_levels: int) -> Callable[[Any, Sequence[str]], str]:
    """The folder so many levels above an output."""
    return lambda wildcards, output: str(Path(output[0]).parents[n_levels - 1])
