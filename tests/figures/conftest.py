"""What a drawn figure says and how large it is on paper."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def said() -> Callable[[Path], list[str]]:
    """The texts of ``<out>.svg``."""

    def read(out: Path) -> list[str]:
        tree = ElementTree.parse(f"{out}.svg")
        return ["".join(node.itertext()).strip() for node in tree.iter("{http://www.w3.org/2000/svg}text")]

    return read


@pytest.fixture
def paper_size() -> Callable[[Path], tuple[float, float]]:
    """Width and height of ``<out>.png`` in mm, from its pixels at 300 dpi."""

    def measure(out: Path) -> tuple[float, float]:
        with Image.open(f"{out}.png") as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            width, height = image.size
        return width / 300 * 25.4, height / 300 * 25.4

    return measure
