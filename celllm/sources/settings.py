"""The catalogue of inputs, config/data_sets.yaml, as settings."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from celllm.settings import Settings, setting, wrong

Role = Literal[
    "genes", "network", "pretraining", "annotation", "single_cell_drug", "expression", "response", "markers"
]
Content = Literal["text", "gzip", "text_or_gzip", "tar", "rdata", "excel", "html", "hdf5"]
_PATH = r"^[A-Za-z0-9_][^\\]*$"


class FileRow(Settings):
    """One file of a source."""

    path: str = setting(
        description="place under the raw folder and under a mirror; relative, never upwards", pattern=_PATH
    )
    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^ ]+$")], ...] = setting(
        (), "addresses, tried in order; none for a file that a user has to supply"
    )
    local: str | None = setting(None, "a file of yours that is copied from there, also beside a mirror")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = setting(
        None, "SHA-256 of the file; null: locked on the first download"
    )
    bytes: int | None = setting(None, "size; null: unknown", ge=1)
    at_least: int | None = setting(
        None, "smallest plausible size in bytes, where sha256 and bytes are not known", ge=1
    )
    at_most: int | None = setting(None, "largest plausible size in bytes", ge=1)
    hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")], ...] = setting(
        (), "other hosts that the addresses may lead to, with all hosts below them"
    )
    content: Content | None = setting(None, "what the first bytes must look like; without it, by the name")
    user_agent: Literal["browser"] | None = setting(
        None, "the host turns away programs that do not call themselves a browser"
    )
    supply: str | None = setting(None, "what a user has to put at `path` when there is no address")
    only_with: dict[str, Any] = setting(
        {}, "values of options under which the file is read; it is not asked for otherwise"
    )

    @model_validator(mode="after")
    def _stays_below(self) -> Self:
        if {".", ".."} & set(self.path.split("/")):
            raise wrong("path", "a path that does not leave the folder", self.path)
        if (not self.urls or "{url}" in self.urls) and not (self.supply or self.local):
            raise wrong("supply", "a sentence on what to put there, as there is no address", self.supply)
        return self


class SampleFileRow(FileRow):
    """A file that exists once per sample; ``{sample}`` and the fields of ``sample`` are filled in."""

    path: str = setting(
        description="place of a sample's file, with {sample} in it", pattern=r"^[A-Za-z0-9_][^\\]*\{sample\}"
    )
    urls: tuple[Annotated[str, Field(pattern=r"^(https?://[^ ]+|\{url\})$")], ...] = setting(
        (), "templates of addresses; a field that the sample's row leaves empty takes one away"
    )
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64}|\{sha256\})$")] | None = setting(
        None, "SHA-256, or the field of the sample table that holds it; null: locked when first seen"
    )


class SampleNames(Settings):
    """How a sample is named, and where the fields of its addresses come from."""

    pattern: str = setting(description="regular expression of a sample's name; its named groups are fields")
    defaults: dict[str, str] = setting({}, "values of groups that a name lacks")
    table: str | None = setting(None, "CSV beside the catalogue with the columns sample, url, sha256")


class SourceRow(Settings):
    """One data set, with everything needed to fetch and read it."""

    title: str = setting(description="as printed in tables")
    role: Role = setting(description="what the workflow uses it for")
    licence: str = setting("not given", "terms of use as far as they are known")
    citation: str = setting("not given", "what to cite")
    note: str = setting("", "what a user of these data should know")
    reader: Literal["h5ad"] | None = setting(None, "for a data set of one's own in a file of cells")
    file: str | None = setting(None, "its only file, one of yours, in place of `files` (reader: h5ad)")
    files: dict[str, FileRow] = setting({}, "its files by name")
    sample_files: dict[str, SampleFileRow] = setting({}, "its files that exist once per sample")
    sample: SampleNames | None = setting(None, "names of its samples")
    uses: dict[str, str] = setting({}, "files that stand under another data set: name -> that data set")
    options: dict[str, Any] = setting({}, "options of its reader")

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if bool(self.file) == bool(self.files) or (self.file and self.reader is None):
            raise wrong("files", "files, or for reader: h5ad one file", self.file)
        if self.role == "pretraining" and (self.sample is None or "matrix" not in self.sample_files):
            raise wrong("sample_files", "a matrix, and sample, for a pre-training source", "none")
        return self
