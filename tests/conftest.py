import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real small files in the layout of the original downloads."""
    place = os.environ.get("CELLLM_MIRROR")
    if not place:
        pytest.skip("CELLLM_MIRROR is not set: no folder of real files in the original layouts")
    return Path(place).resolve()


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Two workers of the test run share two cores: one thread each is the fastest."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
