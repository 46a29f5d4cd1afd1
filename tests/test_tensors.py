import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celllm import tensors
from celllm.errors import UserError

ARRAYS = {
    "genes": np.arange(7, dtype=np.uint16),
    "hash": np.arange(2**63, 2**63 + 3, dtype=np.uint64),
    "table": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "none": np.empty(0, dtype=np.int64),
}
HEADER = {"name": 'Größe \\ "quoted"', "numbers": [1, 2.5, None], "sha256 of": {"sha256": "f" * 64}}


def written(path: Path, values: dict[str, Any] = ARRAYS) -> Path:
    tensors.write(path, "kind-1", values, **HEADER)
    return path


@pytest.mark.parametrize("make", [lambda x: x, lambda x: torch.from_numpy(x.copy())], ids=["numpy", "torch"])
def test_tensors_and_header_come_back(tmp_path: Path, make: Any) -> None:
    path = written(tmp_path / "a.safetensors", {name: make(array) for name, array in ARRAYS.items()})
    header, found = tensors.read(path, "kind-1", "thing")
    assert header == HEADER
    views = tensors.mapped(path)
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name].numpy(), array)
        assert views[name].dtype == array.dtype
        assert np.array_equal(views[name], array)
    assert set(found) == set(views) == set(ARRAYS)


def test_kinds_that_numpy_lacks_and_tensors_that_are_not_contiguous(tmp_path: Path) -> None:
    made = {"half": torch.randn(3, 4).bfloat16().T, "step": torch.tensor(3.0), "flag": torch.tensor([True])}
    tensors.write(tmp_path / "a", "kind-1", made)
    _, found = tensors.read(tmp_path / "a", "kind-1", "thing")
    assert all(torch.equal(found[name], tensor) for name, tensor in made.items())


def test_equal_content_makes_equal_files(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{i}.safetensors").read_bytes() for i in range(5)]
    assert len(set(files)) == 1


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    """Whether it stands in a size, a name, the header, the seal, padding or a tensor."""
    path = written(tmp_path / "a.safetensors")
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytes([content[place] ^ (1 << int(rng.integers(8)))])
        path.write_bytes(content[:place] + changed + content[place + 1 :])
        with pytest.raises(UserError, match=r"a\.safetensors: (damaged|not a thing)") as caught:
            tensors.read(path, "kind-1", "thing")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"<html>404</html>", None])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = written(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    with pytest.raises(UserError, match="damaged, or not a safetensors file") as caught:
        tensors.read(path, "kind-1", "thing")
    assert "\n" not in str(caught.value)


def test_another_kind_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a: not an apple; pick one"):
        tensors.read(written(tmp_path / "a"), "kind-2", "apple; pick one")
    with pytest.raises(UserError, match="b: no such file"):
        tensors.read(tmp_path / "b", "kind-1", "thing")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    before = written(tmp_path / "a").read_bytes()
    with pytest.raises(TypeError):
        tensors.write(tmp_path / "a", "kind-1", ARRAYS, bad=object())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", before)]


def test_arrays_are_read_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from celllm import tensors; "
        f"tensors.read_header({str(written(tmp_path / 'a'))!r}, 'kind-1', 'thing'); "
        f"tensors.mapped({str(tmp_path / 'a')!r}); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("make", [torch.tensor, np.array])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path, make: Any, bad: float) -> None:
    path = tmp_path / "x.safetensors"
    tensors.write(path, "kind", {"a": make([1.0])})
    before = path.read_bytes()
    with pytest.raises(UserError, match="not written, b is not finite; lower the learning rate"):
        tensors.write(path, "kind", {"a": make([1, 2]), "b": make([1.0, bad])})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_more_files_are_mapped_than_may_be_open(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors")
    code = (
        "import resource, sys; from celllm import tensors;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "maps = [tensors.mapped(sys.argv[1]) for _ in range(200)];"
        "print(sum(int(one['genes'].sum()) for one in maps), maps[0]['genes'].flags.writeable)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(200 * 21), "False"], done.stderr


def test_a_view_outlives_its_mapping_and_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors")
    genes = tensors.mapped(path)["genes"][2:5]
    path.unlink()
    assert genes.tolist() == [2, 3, 4]
