"""What each kind of figure shows and what to look at, for the page and Snakemake's report."""

from dataclasses import dataclass

PAPER = "Figures of the paper"
EMBEDDINGS = "Spread of the embeddings"
TRAINING = "Training and size"
OTHER = "Further figures"
GROUPS = (PAPER, EMBEDDINGS, TRAINING, OTHER)


@dataclass(frozen=True)
class Caption:
    """Group and title of a figure, what it shows, what to look at, and whether there is one per data set."""

    group: str
    title: str
    shows: str
    look: str
    by_data_set: bool = False

    @property
    def text(self) -> str:
        """What the figure shows and what to look at, in whole sentences."""
        return " ".join(part for part in (self.shows, f"{self.look}." if self.look else "") if part)


CAPTIONS = {
    "fig3": Caption(
        PAPER,
        "Fig. 3: confusion of cell types",
        "Test cells of all splits together; rows are true classes and sum to 100 %, the corner counts cells.",
        "Look off the diagonal: which types are confused, and whether rare ones are found at all",
        by_data_set=True,
    ),
    "fig4": Caption(
        PAPER,
        "Fig. 4: longest cell by contrastive batch",
        "The longest cell whose training step of the 50M model fits the memory budget, by batch size.",
        "Look at the slopes: end to end, the length falls with the batch; divided, it should hardly change",
    ),
    "figc1": Caption(
        PAPER,
        "Fig. C.1: the genes with the most attention",
        "Mean exact attention of [CLS] to a gene, in the normal and the tumour cells of pre-training.",
        "Look for genes that rank high in tumour cells only, and for those the paper names",
    ),
    "figc2": Caption(
        PAPER,
        "Fig. C.2: cells by their most expressed and most attended genes",
        "The same cells by two choices of genes; ARI compares two clusters with normal and tumour.",
        "Look at whether attended genes separate tumour from normal better; the ARI says by how much",
    ),
    "tsne": Caption(
        EMBEDDINGS,
        "t-SNE of cell embeddings",
        "Cells by the pre-trained encoder, which saw no labels: coloured by type and by errors after tuning.",
        "Look at where errors are, between neighbours or everywhere; distances between islands mean nothing",
        by_data_set=True,
    ),
    "geometry": Caption(
        EMBEDDINGS,
        "Geometry of embeddings",
        "Mean cosine, uniformity, alignment and effective rank of unseen cells, by encoder.",
        "Look at rows with and without contrast: it should spread cells but keep both passes of one together",
    ),
    "loss_curves": Caption(
        TRAINING,
        "Losses of pre-training",
        "A row per model, the others in grey; every point is a mean over steps. Dotted: an uninformed model.",
        "Look for curves that have not levelled off, for jumps, and for a contrast that starts near zero",
    ),
    "scaling": Caption(
        TRAINING,
        "Scores by size of the model",
        "Macro F1 by the size of the model (Table B.2), the paper's points beside ours under both protocols.",
        "Look at whether the spread over splits is smaller than the step between sizes",
    ),
}


def kind_of(name: str) -> tuple[str | None, str]:
    """The kind of a figure and its data set by its file name, ``fig3_baron``; None for an unknown one."""
    for kind, caption in CAPTIONS.items():
        of_set = name.removeprefix(f"{kind}_")
        if name == kind and not caption.by_data_set:
            return kind, ""
        if caption.by_data_set and of_set != name and of_set:
            return kind, of_set
    return None, ""


def caption_of(name: str) -> Caption:
    """The caption of a figure file; one that is not known keeps its name as title."""
    kind, _ = kind_of(name)
    return CAPTIONS[kind] if kind else Caption(OTHER, name.replace("_", " "), "", "")
