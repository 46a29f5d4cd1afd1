"""Settings of tables, claims and the pages of a run."""

from typing import Any, Literal

from celllm.scores.columns import Protocol
from celllm.settings import Settings, setting


class RunLabel(Settings):
    """What a page says about its run."""

    run: str = setting("", "name of the run")
    toy: bool = setting(False, "whether it is a toy")

    @property
    def size(self) -> str:
        """How tables and the manifest call the size of the run."""
        return "toy" if self.toy else "full"


class TableSettings(RunLabel):
    """Of a table of scores."""

    protocols: tuple[Protocol, ...] = setting(("strict", "paper"), "protocols to render")


class ClaimSettings(RunLabel):
    """Of the ledger."""

    protocol: Literal["strict", "paper"] = setting("strict", "the protocol that is judged")
    test_over_train: dict[str, float] = setting({}, "ratio of test to training cells, by task")


class CountSettings(Settings):
    """How far counts may be from the paper's before the run fails."""

    toy: bool = setting(False, "a toy run has other cells: it is compared and never fails")
    tolerance: float = setting(0.0, "allowed difference, as a share of the paper's number", ge=0)
    accept: dict[str, Any] = setting(
        {}, "accepted numbers by name of the count (with * and ?): one number, or the lowest and the highest"
    )


class GateSettings(Settings):
    """Which failures do not fail the run."""

    allowed: tuple[str, ...] = setting((), "patterns model/data_set or model/data_set/status, with * and ?")


class ManifestSettings(RunLabel):
    """Of the manifest."""

    seeds: dict[str, int] = setting({}, "seeds beyond those found in the configuration")
