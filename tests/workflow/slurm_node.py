"""A real SLURM on one node, from Debian's packages, without systemd or cgroups; for root on its own machine.

python tests/workflow/slurm_node.py            starts one and leaves it running until Enter
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "made by tests/workflow/slurm_node.py, and removed by it"
# The executor's job step drops SLURM_CONF and asks the compiled-in place.
CONF = Path("/etc/slurm/slurm.conf")
GRES = CONF.with_name("gres.conf")
# Declared with more processors and memory than there are: what is tested is the scheduler. Jobs in "low" give
# way to those in "high" after GraceTime, where memory is short. KillWait is SLURM's default.
# A requeued job waits until its credential has expired: cred_expire shortens two minutes.
SETTINGS = """\
# {mark}
ClusterName=single
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=10
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
StateSaveLocation={root}/ctld
SlurmdSpoolDir={root}/slurmd
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
ReturnToService=2
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=200000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF PriorityTier=20
PartitionName=low Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


def why_not() -> str | None:
    """Why this machine cannot have a SLURM of its own, after trying to install one; None where it can."""
    if os.getuid() != 0:
        return "starting SLURM needs root"
    if CONF.exists() and MARK not in CONF.read_text():
        return f"{CONF} exists: this machine belongs to a cluster"
    if CONF.exists() and "UP" in told("scontrol", "ping"):
        return "another test has a SLURM running on this machine"
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends slurm-wlm munge"]
        for command in commands:
            if shutil.which("apt-get") is None:
                return "no slurmctld, and no apt-get to install slurm-wlm and munge with"
            done = subprocess.run(command.split(), env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"'{command}' failed: {done.stderr.strip()[-200:]}"
    return None


def until(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Wait for a condition; only what hangs takes as long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.3)


def told(*command: str) -> str:
    """What a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def has_ended(pid: int) -> bool:
    """Gone, or a zombie in a container whose first process collects none."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


class Node:
    """Controller and node on this machine, with state and logs in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.host = root, socket.gethostname().partition(".")[0]
        self.munge = root / "munge.socket"
        self.had_folder = CONF.parent.exists()

    def start(self) -> None:
        """Write the configuration, start munged, slurmctld and slurmd, and wait until the node is idle."""
        for name in ("ctld", "slurmd"):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        (self.root / "munge.key").write_bytes(os.urandom(128))
        (self.root / "munge.key").chmod(0o600)
        CONF.parent.mkdir(exist_ok=True)
        CONF.write_text(SETTINGS.format(mark=MARK, host=self.host, root=self.root, munge=self.munge))
        GRES.write_text(f"NodeName={self.host} Name=gpu File=/dev/null\n")
        own = [f"--{key}-file={self.root}/munge.{key}" for key in ("key", "pid", "log", "seed")]
        subprocess.run(["munged", "--force", f"--socket={self.munge}", *own], check=True, capture_output=True)
        subprocess.run(["slurmctld"], check=True, capture_output=True)
        until(lambda: "UP" in told("scontrol", "ping"), "slurmctld does not answer")
        self.start_node()
        until(lambda: told("sinfo", "-h", "-p", "main", "-o", "%T") == "idle", "the node is not idle")

    def start_node(self) -> None:
        """Start slurmd."""
        subprocess.run(["slurmd", "-N", self.host], check=True, capture_output=True)

    def kill_node(self) -> None:
        """What a power cut does to a node: SIGKILL for slurmd, and for all that it has started."""
        self._end("slurmd", signal.SIGKILL)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone in the meantime
                is_step = (process / "cmdline").read_bytes().startswith(b"slurmstepd")
                if is_step or b"\0SLURMD_NODENAME=" in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        """End jobs and daemons, and remove the configuration."""
        told("scancel", "--user=root")
        self.kill_node()
        for name in ("slurmctld", "munge"):
            self._end(name, signal.SIGTERM)
        for file in (CONF, GRES):
            file.unlink(missing_ok=True)
        if not self.had_folder:
            CONF.parent.rmdir()

    def _end(self, name: str, number: signal.Signals) -> None:
        file = self.root / f"{name}.pid"
        if file.exists():
            pid = int(file.read_text())
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            until(lambda: has_ended(pid), f"{name} does not end")


@contextmanager
def node(root: Path) -> Iterator[Node]:
    """SLURM while the block lasts."""
    made = Node(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print(why_not() or "")
        with node(Path(folder)):
            input(told("sinfo"))
