# Names of files and settings of commands; nothing here knows how anything is computed.
import atexit
import csv
import json
import os
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import SharedFSUsage

try:
    ROOT = Path(workflow.current_basedir).resolve().parents[1]
    sys.path.insert(0, str(ROOT))
except TypeError:
    # A module from git, as snakedeploy makes it, has no folder: config/ is the working directory's.
    ROOT = Path.cwd()
try:
    import celllm
except ModuleNotFoundError:
    raise WorkflowError(
        "a module from git needs the package beside Snakemake: pip install '.[workflow,graph]' in a clone of it"
    ) from None

from celllm.config import Config, load
from celllm.errors import UserError
from celllm.leftovers import remove_stale, write_down
from celllm.live import show
from celllm.plan import CELLS, ENCODER, METRICS, RESPONSES, SAMPLES, SCREEN, Plan
from celllm.plan import FACT_TABLES, SUPPLEMENT
from celllm.report.gate import last_words
from celllm.scores.columns import PROTOCOLS
from celllm.settings import without_resources
from celllm.sources.catalogue import Catalogue

try:
    # The files are read again: Snakemake takes the last of equal keys without a word, and knows no `add`.
    config = load(*workflow.configfiles, changes=config, folder=ROOT / "config")
except UserError as error:
    raise WorkflowError(str(error)) from None

FILES = workflow.storage_settings
if (
    FILES.default_storage_provider
    or SharedFSUsage.INPUT_OUTPUT not in FILES.shared_fs_usage
):
    raise WorkflowError(
        "the jobs of this workflow share one file system: leave --default-storage-provider out, and input-output in "
        "--shared-fs-usage; on a machine without one, copy config/ and data/raw/ there and run all of it there"
    )

remove_stale()
STARTED = time.time()
plan = Plan(config)

# --lint asks for `envvars:` on these three; that would refuse a run where PYTHONPATH was not set before, as it need not be.
# Commands run as `python -m celllm`: from the environment of Snakemake itself, or, activated in front of it, the
# job's conda environment.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
PACKAGE = Path(celllm.__file__).parents[1]
if PACKAGE != ROOT:
    # The package alone: what is installed beside it must not hide what an environment holds.
    installed = Path(celllm.__file__).parent
    PACKAGE = Path(".snakemake/package").resolve()
    PACKAGE.mkdir(parents=True, exist_ok=True)
    if (PACKAGE / "celllm").resolve() != installed.resolve():
        (PACKAGE / "celllm").unlink(missing_ok=True)
        (PACKAGE / "celllm").symlink_to(installed)
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(PACKAGE)] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
).rstrip(":")
os.environ["DGLBACKEND"] = "pytorch"


wildcard_constraints:
    source="|".join(config["data_sets"]["pretraining"]),
    data_set="|".join(plan.cell_sets),
    response="|".join(config["data_sets"]["response"]),
    model="|".join(config["models"]),
    protocol="|".join(PROTOCOLS),
    sample="[^/]+",
    dim=r"\d+",


def results(path):
    return f"{plan.results}/{path}"


def log_of(name):
    return f"{plan.results}/logs/{name}.log"


def times_of(name):
    return f"{plan.results}/benchmarks/{name}.tsv"


def attempts_left(wildcards, attempt):
    """Repetitions that a job of a rule with `retries: 2` still has."""
    return 3 - attempt


def number_of_the_attempt(wildcards, attempt):
    return attempt


def stem(wildcards, output):
    """What outputs that differ in their ends begin with: the command adds the ends."""
    return os.path.splitext(output[0])[0]


def folder_of(n_levels):
    """The folder so many levels above an output."""

    def folder(wildcards, output):
        return str(Path(output[0]).parents[n_levels - 1])

    return folder


def checkout(wildcards, resources):
    """Where the workflow stands; like a resource, a move runs nothing again."""
    return str(ROOT)


def as_json(value):
    """One line of JSON with its keys sorted: equal settings are equal text, so that only changes rerun a job."""
    return json.dumps(value, sort_keys=True)


def per(method, *arguments):
    """What a method of the plan answers for a job, as a function of its wildcards; settings become JSON."""

    def answer(wildcards):
        value = method(*(argument.format(**wildcards) for argument in arguments))
        return as_json(value) if isinstance(value, dict) else value

    return answer


def plain(value):
    """A value as a function: in a plain text Snakemake would read braces as wildcards."""

    def answer(wildcards):
        return value

    return answer


def encoder_of(wildcards):
    """What a row's encoder is read from. Embeddings that were made again with the same vectors run nothing again."""
    files = plan.encoder_files(wildcards.model)
    if plan.pretrained(wildcards.model):
        return files
    return [ancient(path) for path in files] + plan.gene_digests(wildcards.model)


def unwatched(method, *arguments):
    """The same for a parameter whose changes run no job again: Snakemake takes it for derived from resources.

    Resource settings reach commands so; what does decide is a parameter of its own, `science`.
    """
    answer = per(method, *arguments)

    def value(wildcards, resources):
        return answer(wildcards)

    return value
