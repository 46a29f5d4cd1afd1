"""What figures say of themselves, as the settings of their commands."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """Name of the run, and whether it is a toy."""

    run: str = ""
    toy: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelsFigureSettings(FigureSettings):
    """Of a figure of several models; ``titles`` by their names."""

    titles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PredictionsFigureSettings(FigureSettings):
    """Of a figure of one model's predictions on a data set."""

    data_set: str
    model: str = "CellLM"
    protocol: str = ""
