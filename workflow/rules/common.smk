# Names of files and settings of commands; nothing here knows how anything is computed.
import atexit
import json
import os
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.current_basedir).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from celllm.config import SECTION_OF, complete, lay_over, layers_of, read_config
from celllm.errors import UserError
from celllm.report import published
from celllm.report.captions import CAPTIONS, kind_of
from celllm.report.gate import last_words
from celllm.report.supplement import TABLES as SUPPLEMENT
from celllm.io import read_yaml

try:
    # Read again: Snakemake takes the last of equal keys without a word.
    for given in workflow.configfiles:
        read_config(given)
    config = complete(lay_over(read_yaml(ROOT / "config/paper.yaml"), config), ROOT)
except UserError as error:
    raise WorkflowError(str(error)) from None

STARTED = time.time()
RESULTS = config["results"]
RUN_LABEL = {"run": config["run"], "toy": config["toy"]}
EMBEDDED = config["mirror"] == "embedded"
MIRROR = f"{RESULTS}/mirror" if EMBEDDED else config["mirror"]
# What a mirror gives stays with its run; what the internet gives is shared by all runs.
RAW = f"{RESULTS}/raw" if MIRROR else "data/raw"

# Commands run as `python -m celllm`: from the environment of Snakemake itself, or, activated in front of it, the
# job's conda environment.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT)] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
).rstrip(":")
os.environ["DGLBACKEND"] = "pytorch"


def sections_of(tables):
    """Sections of the config that some tables are made from, each once."""
    return list(dict.fromkeys(SECTION_OF[table] for table in tables))


def models_of(tables):
    """Models of some tables, each once."""
    sections = sections_of(tables)
    return list(
        dict.fromkeys(
            name for section in sections for name in config[section]["models"]
        )
    )


def cell_sets():
    """Data sets of the tasks with cells (or cell lines) to prepare."""
    roles = ("annotation", "single_cell_drug", "expression")
    return [name for role in roles for name in config["data_sets"][role]]


wildcard_constraints:
    source="|".join(config["data_sets"]["pretraining"]),
    data_set="|".join(cell_sets()),
    response="|".join(config["data_sets"]["response"]),
    model="|".join(config["models"]),
    protocol="strict|no_refit|paper",
    sample="[^/]+",
    dim=r"\d+",


def results(path):
    return f"{RESULTS}/{path}"


def log_of(name):
    return f"{RESULTS}/logs/{name}.log"


def times_of(name):
    return f"{RESULTS}/benchmarks/{name}.tsv"


def as_json(value):
    """One line of JSON with its keys sorted: equal settings are equal text, so that only changes rerun a job."""
    return json.dumps(value, sort_keys=True)


def as_json_in_order(value):
    """The same where the order of the keys means something: the rows of a table."""
    return json.dumps(value)


def raw_files(data_set):
    return [
        f"{RAW}/{row['path']}"
        for row in config["catalogue"][data_set].get("files", {}).values()
    ]


def file_flags(data_set, sample=None):
    """name=path pairs of a data set's files (and of one sample's) for the command line."""
    rows = dict(config["catalogue"][data_set].get("files", {}))
    if sample is not None:
        rows |= config["catalogue"][data_set]["sample_files"]
    return [
        f"{name}={RAW}/{row['path'].format(sample=sample)}"
        for name, row in rows.items()
    ]


def table_labels(wildcards):
    """Number and subject of a table of the paper, for Snakemake's report."""
    number, _, subject = published.load().table(wildcards.table).title.partition(": ")
    return {"table": number, "subject": subject}
