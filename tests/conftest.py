import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The same examples in every run, and nothing kept between runs.
hypothesis.settings.register_profile(
    "celllm", deadline=None, derandomize=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("celllm")

ROOT = Path(__file__).resolve().parents[1]
RULES_OF_MANY_THREADS = (
    "pretrain",
    "annotate",
    "drug_sensitivity",
    "drug_response",
    "held_out",
    "annotate_controls",
    "drug_sensitivity_controls",
    "drug_response_controls",
    "graphmae",
    "geometry",
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, the one that the machine has."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium): the page was not opened")
    with driver.sync_playwright() as playwright:
        # A container's root may not use Chromium's sandbox, and its /dev/shm may be small.
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[Callable[..., Any]]:
    """Open a file in a browser; ``page.complaints`` are errors, ``page.requests`` the addresses asked for."""
    contexts = []

    def open_(file: Path, state: str = "", **options: Any) -> Any:
        contexts.append(chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)))
        contexts[-1].set_default_timeout(20_000)
        page = contexts[-1].new_page()
        page.complaints, page.requests = [], []
        page.on("console", lambda told: page.complaints.append(told.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(file.resolve().as_uri() + state)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def check_page(open_page) -> Callable[[Path, Path], None]:
    """Hold a page to what all keep: no error, nothing fetched, not wider than a phone or a sheet of paper.

    Screenshots go into a folder, as desktop.png, phone.png and print.png.
    """

    def check(file: Path, shots: Path) -> None:
        phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
        paper = {"viewport": {"width": 688, "height": 1017}}  # A4 less 14 mm on each side, at 96 dpi
        for name, options in (("desktop", {}), ("phone", phone), ("print", paper)):
            page = open_page(file, **options)
            if name == "print":
                page.emulate_media(media="print")
            page.screenshot(path=shots / f"{name}.png")
            assert page.complaints == []
            assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}
            too_wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert too_wide == 0, f"{name}: {too_wide} px too wide"
            assert (shots / f"{name}.png").stat().st_size > 10_000

    return check


@pytest.fixture(scope="session")
def snakemake() -> Run:
    """Run the workflow in a folder of its own, as `make toy` does."""

    def run(
        folder: Path, *arguments: str, mirror: str | None = None, config: str = "toy.yaml"
    ) -> "subprocess.CompletedProcess[str]":
        folder.mkdir(exist_ok=True, parents=True)
        environment = {k: v for k, v in os.environ.items() if k != "CELLLM_MIRROR"}
        if mirror:
            environment["CELLLM_MIRROR"] = mirror
        one_thread = [f"{rule}=1" for rule in RULES_OF_MANY_THREADS]
        command = [sys.executable, "-m", "snakemake", "--set-threads", *one_thread, "--cores", "2"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
        command += ["--workflow-profile", str(ROOT / "profiles/default")]
        command += ["--configfile", str(ROOT / "config" / config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return run
