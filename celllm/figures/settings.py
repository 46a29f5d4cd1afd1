"""What the figures of a run say of it."""

from celllm.settings import Settings, setting


class FigureSettings(Settings):
    """What the figures of a run say of it."""

    toy: bool = setting(False, "whether it is a toy")
    titles: dict[str, str] = setting({}, "titles of models by their names")
    protocol: str = setting("", "of the predictions that are shown")
    batch_size: int = setting(
        0,
        "cells of a pre-training batch, of which a contrast that knows nothing has the loss ln; 0: unknown",
        ge=0,
    )
    data_set: str = setting(
        "", "of a figure of one data set; `celllm figure` takes it from the figure's name"
    )

    def title(self, model: str) -> str:
        """The title of a model, or its name."""
        return self.titles.get(model, model)
