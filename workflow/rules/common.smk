# Names of files. What the rules ask of Python: celllm/plan.py (files and settings of the run), celllm/jobs.py.
import atexit
import csv
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    ROOT = Path(workflow.current_basedir).resolve().parents[1]
    sys.path.insert(0, str(ROOT))
except TypeError:
    # A module from git, as snakedeploy makes it, has no folder: config/ is the working directory's.
    ROOT = Path.cwd()
try:
    from celllm.jobs import ToSupply, folder_of, per, plain, read_plan, stem
    from celllm.jobs import unwatched
except ModuleNotFoundError:
    raise WorkflowError(
        "a module from git needs the package beside Snakemake: pip install '.[workflow,graph]' in a clone of it"
    ) from None

from celllm.config import Config
from celllm.errors import UserError
from celllm.io import as_json
from celllm.leftovers import remove_stale, write_down
from celllm.live import show
from celllm.plan import CELLS, ENCODER, METRICS, RESPONSES, SAMPLES, SCREEN
from celllm.plan import FACT_TABLES, SUPPLEMENT
from celllm.report.gate import last_words
from celllm.scores.columns import PROTOCOLS
from celllm.settings import without_resources

try:
    # --lint asks for `envvars:` of what is set here; that would refuse a run where PYTHONPATH was not set before.
    plan = read_plan(workflow.configfiles, config, ROOT, workflow.storage_settings)
except UserError as error:
    raise WorkflowError(str(error)) from None
config, results = plan.config, plan.path
remove_stale()
STARTED = time.time()


wildcard_constraints:
    source="|".join(config["data_sets"]["pretraining"]),
    data_set="|".join(plan.cell_sets),
    response="|".join(config["data_sets"]["response"]),
    model="|".join(config["models"]),
    protocol="|".join(PROTOCOLS),
    sample="[^/]+",
    dim=r"\d+",


def log_of(name):
    return f"{plan.results}/logs/{name}.log"


def times_of(name):
    return f"{plan.results}/benchmarks/{name}.tsv"


def number_of_the_attempt(wildcards, attempt):
    return attempt


def checkout(wildcards, resources):
    """Where the workflow stands; like a resource, a move runs nothing again."""
    return str(ROOT)


def encoder_of(wildcards):
    """What a row's encoder is read from. Embeddings that were made again with the same vectors run nothing again."""
    files = plan.encoder_files(wildcards.model)
    if plan.pretrained(wildcards.model):
        return files
    return [ancient(path) for path in files] + plan.gene_digests(wildcards.model)
