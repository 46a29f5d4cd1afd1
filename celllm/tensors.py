"""Tensors in a safetensors file, with JSON values in its header and a seal that one changed byte breaks.

The seal is the SHA-256 of the file as it would be with zeros in the place of the seal.
"""

import ctypes
import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celllm.errors import UserError
from celllm.io import atomic, reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_SEAL = b'\\"sha256\\": \\"'  # quotes are escaped: the header holds our JSON as a string
_UNSEALED = b"0" * 64


def write(path: str | Path, kind: str, tensors: "Mapping[str, Any]", **header: Any) -> None:
    """Write tensors (all of PyTorch or all of NumPy), atomically; equal content makes equal files.

    ``kind`` says what the file is, with the version of its layout; :func:`read` asks for it. The header can
    be anything that JSON can hold.

    Raises
    ------
    UserError
        For a number that is not finite: nothing is written, and what stood at ``path`` stays.
    """
    for name, tensor in tensors.items():
        finite = tensor.detach().isfinite() if hasattr(tensor, "detach") else abs(tensor) < float("inf")
        if not finite.all():
            raise UserError(f"{path}: not written, {name} is not finite; lower the learning rate")
    # One key: safetensors writes several in random order.
    metadata = {"celllm": json.dumps({"sha256": _UNSEALED.decode(), "format": kind, **header})}
    with atomic(path) as partial:
        if any(hasattr(tensor, "detach") for tensor in tensors.values()):
            from safetensors.torch import save_file

            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial, metadata)
        else:
            from safetensors.numpy import save_file as save_arrays

            save_arrays(dict(tensors), partial, metadata)
        with open(partial, "r+b") as handle, mmap.mmap(handle.fileno(), 0) as content:
            place = content.find(_SEAL) + len(_SEAL)
            content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()


def read(path: str | Path, kind: str, what: str) -> tuple[dict[str, Any], "dict[str, Tensor]"]:
    """Read what :func:`write` wrote, as PyTorch tensors on the CPU.

    ``what`` names the kind to users and says how it is made: ``encoder; expected what 'celllm pretrain'
    writes``.

    Raises
    ------
    UserError
        For a file that is missing, damaged or of another kind.
    """
    from safetensors.torch import load_file

    header = read_header(path, kind, what)
    return header, load_file(path)


def read_header(path: str | Path, kind: str, what: str, verify: bool = True) -> dict[str, Any]:
    """The JSON values alone; with ``verify`` the whole file is held to its seal. Errors: see :func:`read`."""
    from safetensors import SafetensorError, safe_open

    damaged = "damaged, or not a safetensors file ({}); make it again"
    with (
        reading(path, damaged, SafetensorError, OSError, json.JSONDecodeError),
        safe_open(path, framework="np") as file,
    ):
        header: dict[str, Any] = json.loads((file.metadata() or {}).get("celllm", "{}"))
    if header.pop("format", None) != kind:
        raise UserError(f"{path}: not an {what}" if what[0] in "aeiou" else f"{path}: not a {what}")
    seal = header.pop("sha256", None)
    if not verify:
        return header
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_SEAL) + len(_SEAL)
        digest = hashlib.sha256(content[:place] + _UNSEALED)
        with memoryview(content) as view:
            digest.update(view[place + 64 :])
    if seal != digest.hexdigest():
        raise UserError(f"{path}: damaged or changed since it was written; make it again")
    return header


def mapped(path: str | Path) -> "dict[str, NDArray[Any]]":
    """The arrays of a file that has passed :func:`read_header`, read from disk when they are looked at.

    The file is closed again: a corpus has more of them than a process may hold open.
    """
    content = _mapped_bytes(path)
    # A safetensors file: 8 bytes with the size of the header, the header in JSON, the tensors.
    body = 8 + int(content[:8].view("<u8")[0])
    places = json.loads(content[8:body].tobytes())
    found = {}
    for name, place in places.items():
        if name != "__metadata__":
            start, stop = place["data_offsets"]
            kind, bits = place["dtype"][:1].lower(), int(place["dtype"][1:])  # U16 -> uint16
            values = content[body + start : body + stop].view(f"<{kind}{bits // 8}")
            found[name] = values.reshape(place["shape"])
    return found


def _mapped_bytes(path: str | Path) -> "NDArray[np.uint8]":
    """The bytes of a file; Python's own mmap would keep a descriptor of the file for itself (before 3.13)."""
    import numpy as np

    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        place = library.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, handle.fileno(), 0)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    # Arrays made from the buffer keep it; with the last of them the mapping goes.
    buffer = (ctypes.c_ubyte * size).from_address(place)
    weakref.finalize(buffer, library.munmap, place, size).atexit = False
    content: NDArray[np.uint8] = np.ctypeslib.as_array(buffer)
    content.flags.writeable = False
    return content
