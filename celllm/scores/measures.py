"""Names of the measures of :mod:`celllm.model.geometry`, importable without PyTorch."""

MEASURES = ("mean_cosine", "uniformity", "alignment", "effective_rank")
