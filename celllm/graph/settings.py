"""Settings of the protein network, of GraphMAE and of drug graphs."""

from typing import Literal, Self

from pydantic import model_validator

from celllm.settings import Settings, setting, wrong

MAX_SCORE = 1000
DrugPooling = Literal["max", "mean"]


class NetworkSettings(Settings):
    """What makes a protein link an edge of the gene network.

    The paper names "the PPI network" and no source. STRING and the threshold of 0.95 are an assumption, taken
    from the authors' released code for another of their tasks.
    """

    min_score: int = setting(
        950,
        "STRING links with a combined score above this, of at most 1000, become edges",
        ge=0,
        lt=MAX_SCORE,
    )


class GraphMAESettings(Settings):
    """Sizes and training of GraphMAE.

    The CellLM paper fixes only ``dim`` (512). The rest follows GraphMAE's published settings for its own
    protein network (residual connections, layer norm, half of the nodes masked), with fewer layers and a
    higher learning rate for shorter training.
    """

    dim: int = setting(512, "size of a gene's embedding (paper)", ge=1)
    hidden: int | None = setting(None, "size of the encoder's inner layers; null: dim, as in GraphMAE", ge=1)
    heads: int = setting(4, "attention heads; a divisor of dim and hidden", ge=1)
    layers: int = setting(2, "layers of the encoder; the decoder has one", ge=1)
    features: int = setting(128, "size of the input features, made from the network's spectrum", ge=1)
    identity: float = setting(
        0.1, "share of a gene's own random direction in its input features (squared length)", ge=0, lt=1
    )
    epochs: int = setting(200, "passes over the network", ge=1)
    learning_rate: float = setting(0.005, "of Adam", gt=0)
    weight_decay: float = setting(2e-4, "of Adam", ge=0)
    feature_dropout: float = setting(0.2, "dropout of features", ge=0, lt=1)
    attention_dropout: float = setting(0.1, "dropout of attention weights", ge=0, lt=1)
    mask_rate: float = setting(0.5, "share of the genes that is masked in an epoch", gt=0, lt=1)
    noise_rate: float = setting(
        0.05, "share of the masked genes that get another gene's features in place of [MASK]", ge=0, lt=1
    )
    gamma: float = setting(
        3.0, "exponent of the scaled cosine error; above 1, nearly right vectors weigh less", ge=1
    )
    rms: float = setting(1.0, "root mean square of each gene's embedding in the file", gt=0)
    seed: int = setting(0, "of weights, masks and features", ge=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for size in (self.dim, self.width):
            if size % self.heads:
                raise wrong("heads", f"a divisor of dim and hidden, here {size}", self.heads)
        return self

    @property
    def width(self) -> int:
        """Size of the inner layers of the encoder."""
        return self.dim if self.hidden is None else self.hidden
