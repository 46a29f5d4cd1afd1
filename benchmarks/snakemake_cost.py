"""What Snakemake itself costs: seconds of the processor and peak memory of planning, and of a whole run.

    python benchmarks/snakemake_cost.py                         # plans: the toy, the full run, 1,400 samples
    python benchmarks/snakemake_cost.py --run -- --configfile config/toy.yaml --cores 2 all

Without --run, `snakemake -n all` in empty folders; where samples are asked for, their tables are made up and
stand there, so that all of the graph is planned. With --run, Snakemake runs as it is told and the figures are
those of its own process, without its jobs. --profile N prints the N functions that took longest beside them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).parents[1]
CONTROLLER = """
import atexit, resource, sys, time
start = time.perf_counter()
def say():
    used = resource.getrusage(resource.RUSAGE_SELF)
    jobs = seen.get("jobs", "")
    print(f"controller: {time.perf_counter() - start:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of the "
          f"processor, {used.ru_maxrss / 1024:.0f} MiB{jobs}", file=sys.stderr)
seen = {}
atexit.register(say)
from snakemake.cli import main
import snakemake.dag
made = snakemake.dag.DAG.postprocess
async def counted(dag, *arguments, **options):
    await made(dag, *arguments, **options)
    seen["jobs"] = f", {len(dag)} jobs"
snakemake.dag.DAG.postprocess = counted
main(sys.argv[1:])
"""


def controlled(arguments: list[str], profile: int = 0) -> str:
    """Run Snakemake; return the line about its own process."""
    python = [sys.executable]
    with tempfile.NamedTemporaryFile(suffix=".prof") as stats:
        script = Path(stats.name).with_suffix(".py")
        script.write_text(CONTROLLER)
        python += ["-m", "cProfile", "-o", stats.name] if profile else []
        environment = os.environ | {"PYTHONPATH": str(TREE)}
        try:
            done = subprocess.run(
                [*python, str(script), *arguments], env=environment, text=True, capture_output=True
            )
        finally:
            script.unlink()
        line = next((x for x in done.stderr.splitlines() if x.startswith("controller: ")), "")
        if done.returncode or not line:
            sys.exit(f"snakemake failed:\n{done.stderr[-2000:]}")
        if profile:
            import pstats

            pstats.Stats(stats.name).sort_stats("tottime").print_stats(profile)
        return line


def planned(config: str, n_samples: int, profile: int) -> str:
    """Plan a run in an empty folder, with tables of so many samples where there are to be any."""
    from celllm.config import load
    from celllm.plan import SAMPLES, Plan

    plan = Plan(load(TREE / "config" / config, folder=TREE / "config"))
    with tempfile.TemporaryDirectory() as folder:
        sources = plan.data_sets["pretraining"] if n_samples else []
        for source in sources:
            for path in plan.raw_files(source):
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                os.utime(file, (time.time() - 100,) * 2)
            # Those of PanglaoDB may have any name; the others' come from lists of addresses.
            names = (f"SRA{i}_SRS{i}" for i in range(n_samples if source == "panglaodb" else 0))
            table = Path(folder, plan.path(SAMPLES.format(name=source)))
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("sample\ttumour\n" + "".join(f"{name}\t0\n" for name in names))
        place = ["--directory", folder, "--snakefile", str(TREE / "Snakefile"), "--cores", "1"]
        return controlled(
            ["-n", "--quiet", "all", "--configfile", str(TREE / "config" / config), *place, "--", "all"],
            profile,
        )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1400)
    parser.add_argument("--profile", type=int, default=0, metavar="N")
    parser.add_argument("--run", action="store_true", help="run Snakemake with the arguments behind --")
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        print(controlled(chosen.arguments, chosen.profile))
        return
    for config, n_samples in (("toy.yaml", 0), ("paper.yaml", 0), ("paper.yaml", chosen.samples)):
        told = f"{config}, {n_samples or 'no'} samples known"
        print(f"{told}: {planned(config, n_samples, chosen.profile)}", flush=True)


if __name__ == "__main__":
    main()
