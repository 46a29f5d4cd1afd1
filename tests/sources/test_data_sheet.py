"""The messages that docs/data.md promises are those that the code gives."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MESSAGE = re.compile(r"`((?:FILE|SOURCE|PATH|options of|mirror)[^`]*)`")
# What varies in a message: names in capitals, and examples of values.
VARIES = re.compile(
    r"FILE|SOURCE|DETAIL|URL|HASH|DATE|DIR|data.lock|404 Not Found|config/data_sets.yaml"
    r"|an HTML page|NAMES?|KEYS?|KIND|VALUE|TEXT|MEMBER|CELL|GENE|BARCODE|PATTERN|SHAPE|PATH|LINE|PROBLEM"
    r"|\bN\b|nan|-2|2\.5|4\.25|3000|ENSMUSG|Sensitive, Resistant, Holiday|'protein-coding gene'|[:;] "
)


def _messages() -> list[str]:
    section = (ROOT / "docs" / "data.md").read_text().split("## What bad files get")[1]
    return MESSAGE.findall(section)


@pytest.fixture(scope="module")
def source() -> str:
    """All source text, with the joints of split string literals and the marks of formatting taken out."""
    text = "
".join(path.read_text() for path in (ROOT / "celllm").rglob("*.py"))
    text = re.sub(r'"\n\s*f?"', "", text)
    return text.replace("`", "").replace("\\'", "'").replace("{AGAIN}", "delete the file and get it again")


def test_the_table_is_there():
    assert len(_messages()) > 50


@pytest.mark.parametrize("message", _messages())
def test_a_promised_message_is_in_the_code(source, message):
    pieces = [piece.strip(" :;,.'()") for piece in VARIES.split(message)]
    for piece in pieces:
        assert len(piece) < 4 or piece in source, piece
