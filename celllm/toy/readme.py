"""README of the toy mirror: what is real in it and what is not."""

TITLE = "# Toy mirror of the CellLM benchmark"

_TEXT = """
Written by `celllm toy-mirror` with seed {seed}. Every file is where the original download would be and
has its format, its headers and its oddities. `MANIFEST.tsv` says what each file is made of;
`SHA256SUMS` covers all.

**These are not the data of the paper.** Results on them show that the software works; they say nothing
about any method.

| folder | real | not real |
|---|---|---|
| `hgnc/` | symbols, former symbols, aliases | ids are placeholders; few genes, most columns empty |
| `string/` | symbols | proteins, links and scores are generated |
| `zheng68k/` | 700 measured cells and their labels | gene ids are placeholders |
| `panglaodb/` | gene symbols | all else is generated; accessions are made up |
| `cancerscem/` | gene symbols | all else is generated; sample ids are made up |
| `baron/` | gene symbols, class names | all else is generated |
| `gse149383/`, `gse117872/` | gene symbols | all else is generated |
| `ccle/` | gene symbols | all else is generated; the cell lines do not exist |
| `gdsc/` | names, ids, targets, structures of the drugs | lines and responses are generated |

The real cells are those of Zheng et al., Nature Communications 8:14049 (2017), in the excerpt that scanpy
ships as `pbmc68k_reduced`: their integer counts follow from its log-normalised values and UMI totals. Their
labels are its `bulk_labels`, not those of the original label table; the two columns of plot coordinates
hold its UMAP.

How the other cells are generated: a cell has an activity in each of some 45 programmes (complexes,
responses, cell types); log expression is linear in the activities; tumours, drugs and samples shift
activities or genes; counts are negative binomial. Genes of one programme are linked in `string/`. ln IC50 =
drug + line + activities of the line + noise. Nothing generated depends on the real cells except the list
of their gene names.
"""


def readme(seed: int) -> str:
    """Text of ``README.md``; its first line identifies a toy mirror."""
    return TITLE + "\n" + _TEXT.format(seed=seed)
