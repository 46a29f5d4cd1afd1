"""R workspaces with one sparse matrix, as PanglaoDB serves them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rdata.conversion.to_r import ConverterFromPythonToR, build_r_object
from rdata.parser import RObject, RObjectType
from rdata.unparser import UnparserXDR
from scipy import sparse

from celllm.toy.packing import gzipped


@dataclass(frozen=True)
class SparseMatrix:
    """What becomes a ``dgCMatrix`` of R's Matrix package: genes x barcodes with names on both sides."""

    values: sparse.csc_matrix
    row_names: Sequence[str]
    column_names: Sequence[str]


class _Writer(UnparserXDR):
    """The writer of the rdata package, taught S4 objects: nothing but their slots, which are attributes."""

    def unparse_r_object(self, obj: RObject) -> None:
        if obj.info.type is not RObjectType.S4:
            super().unparse_r_object(obj)
            return
        flags = (obj.info.gp << 12) | (obj.info.attributes << 9) | (obj.info.object << 8)
        self.unparse_int(flags | RObjectType.S4.value)
        if obj.attributes is not None:
            self.unparse_r_object(obj.attributes)


@dataclass(frozen=True)
class _Class:
    name: str
    package: str


def _class_name(name: _Class, convert: ConverterFromPythonToR) -> RObject:
    text = convert.convert_to_r_object(np.array([name.name]))
    package = convert.convert_to_r_attributes({"package": np.array([name.package])})
    return build_r_object(RObjectType.STR, value=text.value, attributes=package)


def _matrix(matrix: SparseMatrix, convert: ConverterFromPythonToR) -> RObject:
    slots = {
        "i": matrix.values.indices.astype(np.int32),
        "p": matrix.values.indptr.astype(np.int32),
        "Dim": np.array(matrix.values.shape, dtype=np.int32),
        "Dimnames": [np.array(matrix.row_names), np.array(matrix.column_names)],
        "x": matrix.values.data.astype(np.float64),
        "factors": [],
        "class": _Class("dgCMatrix", "Matrix"),
    }
    attributes = convert.convert_to_r_attributes(slots)
    return build_r_object(RObjectType.S4, is_object=True, attributes=attributes, gp=1 << 4)  # 16: R's S4 bit


def workspace(matrix: SparseMatrix, name: str = "sm") -> bytes:
    """Gzip-compressed R workspace (format 3, XDR) with one S4 object called ``name``."""
    constructors: dict[type, Callable[[Any, Any], RObject]] = {SparseMatrix: _matrix, _Class: _class_name}
    converter = ConverterFromPythonToR(constructor_dict=constructors)
    buffer = io.BytesIO()
    buffer.write(b"RDX3\n")
    _Writer(buffer).unparse_r_data(converter.convert_to_r_data({name: matrix}, file_type="rda"))
    return gzipped(buffer.getvalue())
