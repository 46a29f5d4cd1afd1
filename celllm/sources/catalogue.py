"""The catalogue of inputs, config/data_sets.yaml: what stands in the raw folder and where it comes from."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from celllm.config import is_wanted, read_catalogue
from celllm.errors import UserError
from celllm.sources.settings import Content

MAX_BYTES = 2**36
"""No file of a source is larger, whatever a server goes on sending."""
_CONTENT_OF: dict[str, Content] = {
    ".gz": "gzip",
    ".tgz": "gzip",
    ".tar": "tar",
    ".RData": "rdata",
    ".xlsx": "excel",
    ".html": "html",
    **dict.fromkeys((".h5ad", ".h5", ".h5mu", ".loom"), "hdf5"),
}


@dataclass(frozen=True)
class InputFile:
    """One file of the catalogue, its templates filled in.

    ``path`` is its place under the raw folder and under a mirror, ``key`` its place in the catalogue;
    ``wanted`` says whether the options in the catalogue ask for it.
    """

    key: str
    path: str
    urls: tuple[str, ...]
    sha256: str | None
    bytes: int | None
    content: Content
    browser: bool = False
    supply: str | None = None
    local: str | None = None
    sample: str | None = None
    wanted: bool = True
    at_least: int = 0
    at_most: int = MAX_BYTES
    hosts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name among the files of its source, as in ``--files name=path``."""
        return self.key.rpartition(".")[2]


class Catalogue:
    """All inputs by source and name: the checked content of config/data_sets.yaml (:meth:`read`).

    ``places`` has the file that each source was read from; sample tables stand beside it.
    """

    def __init__(self, sources: Mapping[str, Mapping[str, Any]], places: Mapping[str, Path]) -> None:
        self.sources, self.places = sources, places
        self.where = ", ".join(dict.fromkeys(map(str, places.values())))
        self._tables: dict[str, dict[str, dict[str, str]]] = {}

    @classmethod
    def read(cls, given: "str | Path | Sequence[str | Path] | Catalogue") -> "Catalogue":
        """Read and check a file, or several; the first slip is a one-line :class:`UserError` with the key."""
        if isinstance(given, Catalogue):
            return given
        return cls(*read_catalogue([given] if isinstance(given, str | Path) else given))

    def source(self, name: str) -> Mapping[str, Any]:
        """Return the entry of one source; an unknown name is a :class:`UserError` with the known ones."""
        if name not in self.sources:
            raise UserError(f"{self.where}: unknown data set '{name}'; known are {', '.join(self.sources)}")
        return self.sources[name]

    def files(self, source: str) -> list[InputFile]:
        """List the files that a source has once, without those of its samples."""
        entry = self.source(source)
        return [
            _input(row, f"{source}.files.{name}", {}, is_wanted(row, entry.get("options", {})))
            for name, row in entry["files"].items()
        ]

    def sample_files(self, source: str, sample: str | None = None) -> list[InputFile]:
        """List the files of a sample; without one the templates, with ``{sample}`` left in the path."""
        fields = {} if sample is None else self.fields(source, sample)
        rows = self.source(source).get("sample_files", {})
        return [_input(row, f"{source}.sample_files.{name}", fields) for name, row in rows.items()]

    def resolve(self, path: str) -> InputFile:
        """Find the row of a path under the raw folder, or refuse it as a :class:`UserError`."""
        if path in self._files_by_path:
            return self._files_by_path[path]
        for source, entry in self.sources.items():
            for name, row in entry.get("sample_files", {}).items():
                before, _, after = map(re.escape, row["path"].partition("{sample}"))
                match = re.fullmatch(f"{before}({entry['sample']['pattern']}){after}", path)
                if match:
                    return _input(row, f"{source}.sample_files.{name}", self.fields(source, match[1]))
        raise UserError(f"{path}: no row of {self.where} has this path; `celllm fetch --list` shows all")

    @cached_property
    def _files_by_path(self) -> dict[str, InputFile]:
        """All but those of samples, the first of equal ones; planning asks for thousands of paths."""
        files = [file for source in self.sources for file in self.files(source)]
        return {file.path: file for file in reversed(files)}

    def to_supply(self, raw: str | Path, paths: Iterable[str]) -> dict[str, str]:
        """What a user has to put at those places in the raw folder that are empty and have no address."""
        files = {path: self.resolve(path) for path in paths if not (Path(raw) / path).exists()}
        return {
            path: f"{file.supply} ({file.key})"
            for path, file in files.items()
            if not (file.urls or file.local)
        }

    def fields(self, source: str, sample: str) -> dict[str, str]:
        """Return what fills the templates of a sample: parts of its name and its row of the sample table."""
        spec = self.source(source).get("sample", {})
        match = re.fullmatch(spec.get("pattern", "(?!)"), sample)
        if match is None:
            raise UserError(
                f"{source}: '{sample}' is not a sample name; expected the form {spec.get('pattern')}"
            )
        fields = {k: v for k, v in match.groupdict().items() if v is not None}
        return spec.get("defaults", {}) | fields | self.table(source).get(sample, {}) | {"sample": sample}

    def table(self, source: str) -> dict[str, dict[str, str]]:
        """Return the rows of a source's sample table by sample; none where the source has no table."""
        name = self.source(source).get("sample", {}).get("table")
        if name is None:
            return {}
        if source not in self._tables:
            path = self.places[source].parent / name
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError as error:
                raise UserError(
                    f"{path}: no such file; the catalogue names it as the table of samples"
                ) from error
            rows = list(csv.DictReader(line for line in lines if line.strip() and not line.startswith("#")))
            for row in rows:
                if set(row) != {"sample", "url", "sha256"} or None in row.values():
                    raise UserError(
                        f"{path}: expected the columns sample,url,sha256, got {','.join(map(str, row))}"
                    )
                row |= {name: value.strip() for name, value in row.items()}
                where = f"{path}: sample {row['sample']}"
                if row["url"] and not re.match(r"https?://\S+$", row["url"]):
                    raise UserError(f"{where}: '{row['url']}' is not an http address")
                if row["sha256"] and not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
                    raise UserError(f"{where}: sha256 needs 64 hexadecimal digits in lower case")
            self._tables[source] = {row["sample"]: row for row in rows}
        return self._tables[source]


def _input(row: Mapping[str, Any], key: str, fields: Mapping[str, str], wanted: bool = True) -> InputFile:
    path = row["path"].format_map(fields) if fields else row["path"]
    given = row.get("urls", ())
    urls = [_filled(url, fields) for url in given] if fields else given
    return InputFile(
        key=key,
        path=path,
        urls=tuple(url for url in urls if url),
        sha256=_filled(row["sha256"], fields) if row.get("sha256") else None,
        bytes=row.get("bytes"),
        content=row.get("content") or _CONTENT_OF.get(Path(path).suffix, "text"),
        browser=row.get("user_agent") == "browser",
        supply=row.get("supply"),
        local=_filled(row["local"], fields) if fields and row.get("local") else row.get("local"),
        sample=fields.get("sample"),
        wanted=wanted,
        at_least=row.get("at_least", 0),
        at_most=row.get("at_most", MAX_BYTES),
        hosts=tuple(row.get("hosts", ())),
    )


def _filled(template: str, fields: Mapping[str, str]) -> str | None:
    """Fill a template; None when one of its fields is unknown or empty."""
    wanted = [name for _, name, _, _ in Formatter().parse(template) if name]
    return template.format_map(fields) if all(fields.get(name) for name in wanted) else None


def choose(catalogue: Catalogue, only: Sequence[str] = ()) -> list[str]:
    """Return the wanted sources in the catalogue's order, all when none is named; refuse unknown ones."""
    for name in only:
        catalogue.source(name)
    return [name for name in catalogue.sources if not only or name in only]
