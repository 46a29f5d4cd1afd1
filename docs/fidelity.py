"""Make fidelity.md of fidelity.yaml: run ``python docs/fidelity.py``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celllm.cells.settings import OPTIONS
from celllm.config import METHODS_OF, Config, Row, load, merged
from celllm.io import read_yaml, write_text
from celllm.model.settings import EncoderSize
from celllm.plan import Plan
from celllm.settings import as_settings

HERE = Path(__file__).parent
HEAD = """# The paper, its code and this benchmark

<!-- made by `python docs/fidelity.py` from docs/fidelity.yaml; do not edit -->

What the paper says (Zhao et al. 2023, arXiv:2306.04371), what its released code does, and what is run here.
*Released* is PharMolix/OpenBioMed as of its release 0.1 (commit 5ee9dd3; the files named here have not
changed since), its paths below `open_biomed/` unless they begin with `configs/` or `scripts/`. The settings
are those of `config/paper.yaml`; where `config/corrected.yaml` has another one, it stands behind the arrow. A
test compares both with the configuration that is run.
"""


class Filled:
    """A configuration with the defaults of every settings class."""

    def __init__(self, path: Path) -> None:
        self.done = load(path)
        self.config = as_settings(Config, merged(path))
        self.plan = Plan(self.done)

    def __getitem__(self, key: str) -> Any:
        """The value of a key as the head of fidelity.yaml describes it, as JSON has it."""
        first, *path = key.split(".")
        section, _, row = first.partition("@")
        if row:
            method = self.done["models"][row].get("method", "encoder")
            found = as_settings(METHODS_OF[section][method], self.plan.settings(section, row))
        elif first == "catalogue":
            found = as_settings(OPTIONS[path[0]], self.done[first][path[0]]["options"])
        elif first in ("models", "sizes"):
            kind = {"models": Row, "sizes": EncoderSize}[first]
            found = as_settings(kind, self.done[first][path[0]])
        else:
            found, path = self.config, [*key.split(".")]
        value: Any = found.model_dump(mode="json")
        for name in path[first in ("catalogue", "models", "sizes") :]:
            value = value[name]
        return value


def page(parts: list[dict[str, Any]]) -> str:
    """The whole page."""
    lines = [HEAD]
    for part in parts:
        lines += [f"## {part['part']}\n", "| | paper | released | here | effect |", "|---|---|---|---|---|"]
        for row in part["rows"]:
            cells = (row["what"], row["paper"], row["released"], here(row), row["effect"])
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def here(row: Mapping[str, Any]) -> str:
    """What is run: in words, the settings, the file."""
    settings = []
    for key, value in row.get("paper_yaml", {}).items():
        corrected = row.get("corrected_yaml", {}).get(key)
        arrow = "" if corrected is None else f" → `{json.dumps(corrected)}`"
        settings.append(f"`{key}: {json.dumps(value)}`{arrow}")
    code = [f"`{row['code']}`"] if "code" in row else []
    words = [row["here"]] if "here" in row else []
    return "; ".join([*words, *code, *settings])


if __name__ == "__main__":
    write_text(HERE / "fidelity.md", page(read_yaml(HERE / "fidelity.yaml")))
