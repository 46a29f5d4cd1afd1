"""Names of the measures of :mod:`celllm.model.geometry`, for those who need no PyTorch."""

MEASURES = ("mean_cosine", "uniformity", "alignment", "effective_rank")
