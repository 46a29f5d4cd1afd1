"""An encoder that was trained before, from the same, is taken from the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celllm.io import sha256
from celllm.model.weights import load_encoder
from celllm.training import encoder_store, pretrain
from tests.training.conftest import run_pretrain

Trained = Callable[..., dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "encoders"


@pytest.fixture
def trained(arguments: Callable[..., dict[str, Any]], store: Path) -> Trained:
    """Pre-train with a store; arguments as those of the fixture ``pretrained``."""

    def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = arguments(*args, **kwargs)
        assert run_pretrain(**made, store=store) == 0
        return made

    return run


def stored(store: Path) -> list[Path]:
    return sorted(store.glob("*/encoder.safetensors"))


def test_the_same_is_trained_once(trained: Trained, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trained("one")
    assert [sha256(path) for path in stored(store)] == [sha256(one["out"])]

    def no_training(*_: Any) -> bool:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "train", no_training)
        two = trained("two", token_budget=999, log_steps=3)  # resources change nothing
    assert sha256(two["out"]) == sha256(one["out"])
    assert Path(two["metrics"]).read_text() == Path(one["metrics"]).read_text()
    for name, changes in {
        "seed": {"seed": 3},
        "rate": {"learning_rate": 0.1},
        "row": {"row": {"contrast": "none"}},
        "name": {"row": {"name": "another"}},
    }.items():
        before = len(stored(store))
        trained(name, **changes)
        assert len(stored(store)) == before + 1, name


def test_other_titles_share_the_training_and_keep_their_own(trained: Trained, store: Path) -> None:
    for title in ("One", "Two"):
        made = trained(title, row={"title": title})
        assert load_encoder(made["out"])[1]["model"]["title"] == title
    assert len(stored(store)) == 1


def test_another_program_trains_anew(trained: Trained, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained("one")
    monkeypatch.setattr(encoder_store, "_source_sha256", lambda: "0" * 64)
    trained("two")
    assert len(stored(store)) == 2


def test_a_damaged_encoder_is_trained_again(trained: Trained, store: Path) -> None:
    one = trained("one")
    (file,) = stored(store)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    two = trained("two")
    assert sha256(two["out"]) == sha256(one["out"]) == sha256(file)


def test_the_sources_of_the_training_are_there() -> None:
    for place in encoder_store.SOURCES:
        path = encoder_store.PACKAGE / place
        assert path.is_file() or list(path.glob("*.py"))
