"""A sweep on a real SLURM of one node: cancelled, drained and failing jobs, and equal metrics."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_chain import Project

# Where the plugin's commands look, since it takes SLURM_CONF from the jobs' environment.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
# CPUs and memory for two jobs of the profile at a time, whatever the machine has.
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PARAMETERS = """
profile: str = "sample"
run_dir: str = ""
seeds: list = []
"""
# A training whose outcome hangs on its seed. It waits at a gate, where the test meets it midway.
CELL = """
import os, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from hw2_utils import runs
run = runs.start("06_prompting", globals())
gate = Path(os.environ["HW2_RUNS"]).parent / "gate"
if gate.exists():
    gate.with_name(f"waits {seeds[0]}").touch()
while gate.exists():
    time.sleep(0.1)
assert seeds[0] != 9, "seed nine is broken"
torch.manual_seed(seeds[0])
inputs, network = torch.randn(400, 8), torch.nn.Linear(8, 2)
optimizer = torch.optim.Adam(network.parameters(), 0.05)
truth = (inputs.sum(1) + torch.randn(400) > 0).long()
for _ in range(20):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(inputs[:200]), truth[:200])
    loss.backward()
    optimizer.step()
predicted = network(inputs[200:]).argmax(1)
names = np.array(["no", "yes"])
frame = pd.DataFrame({"id": [str(i) for i in range(200)], "split": "test", "method": "linear",
                      "seed": seeds[0], "label": names[truth[200:]], "prediction": names[predicted],
                      "log_probs": None})
run.add_predictions(frame, file="linear", classes=["no", "yes"])
accuracy = (predicted == truth[200:]).double().mean().item()
common = {"method": "linear", "seed": seeds[0], "n": 200}
run.add_metrics([{**common, "name": "accuracy", "value": accuracy},
                 {**common, "name": "loss", "value": loss.item()}])
run.finish()
"""


def why_not() -> str:
    """What this machine lacks for a SLURM of its own, or nothing."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)} here (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid():
        return "only root can start slurmd"
    if os.path.lexists(CONFIGURATION):
        return f"{CONFIGURATION} is there already: a SLURM that is in use stays untouched"
    if not os.access(CONFIGURATION.parent, os.W_OK):
        return f"{CONFIGURATION.parent} can't be written"
    return ""


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 300  # a busy machine
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def slurm(*words: str) -> str:
    return subprocess.run(words, text=True, capture_output=True, check=True).stdout


@pytest.fixture
def node() -> Iterator[str]:
    """The name of the one node of a SLURM on loopback, which ends with the test."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    host = socket.gethostname().partition(".")[0]
    with ExitStack() as stack:
        # not pytest's folder: munge's socket needs a short path whose folders others can't write
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hw2-slurm-")))
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        ports = {"controller_port": free_port(), "node_port": free_port()}
        text = SLURM_CONF.format(host=host, folder=folder, **ports)
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        CONFIGURATION.symlink_to(folder / "slurm.conf")
        stack.callback(CONFIGURATION.unlink)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        munge = [f"--{option}={folder / file}" for option, file in files.items()]
        for command in (
            ["munged", "--foreground", *munge],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D", "-N", host],
        ):
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(daemon.wait, timeout=30)
            stack.callback(daemon.terminate)
            wait_for((folder / "munge.socket").exists)
        wait_for(lambda: "idle" in subprocess.getoutput("sinfo --noheader --format=%T"))
        yield host


def jobs(state: str) -> dict[str, str]:
    """The number of each job in a state, and the run that it is for."""
    lines = slurm("squeue", f"--states={state}", "--noheader", "--format=%i %k").splitlines()
    return {number: comment.rpartition("_")[2] for number, comment in map(str.split, lines)}


def outcomes(project: Project) -> dict[str, Any]:
    """Metrics and checksum of the predictions of each complete run of the sweep."""
    records = {
        file.parent.name: json.loads(file.read_text(encoding="utf-8"))
        for file in project.runs.glob("sweeps/few/*/result.json")
        if (file.parent / ".done").exists()
    }
    return {
        name: (record["metrics"], record["files"]["predictions/linear.parquet"])
        for name, record in records.items()
    }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """With that notebook, a profile that polls more often, and an open end: the gate is shut."""
    made = Project(tmp_path, ("project", "runs"))
    made.write_notebook("06_prompting", PARAMETERS, CELL)
    profile = made.root / "workflow" / "profiles" / "slurm" / "config.yaml"
    patient = profile.read_text(encoding="utf-8")
    assert "-status-checks: 20" in patient
    profile.write_text(patient.replace("-status-checks: 20", "-status-checks: 2"), encoding="utf-8")
    (tmp_path / "gate").touch()
    return made


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four runs, of which the last one fails; the node takes two jobs at a time."""
    file = tmp_path / "few.yaml"
    file.write_text("notebook: 06_prompting\ngrid: {seeds: [[0], [1], [2], [9]]}\n")
    return file


@pytest.mark.slow
def test_a_sweep_on_slurm_outlives_a_cancelled_job_and_a_drained_node(
    node, project, sweep, tmp_path
):
    chain = project.start("--slurm", "--cores", "4", "--sweep", str(sweep))
    try:
        wait_for(lambda: len(list(tmp_path.glob("waits *"))) == 2)
        slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
        cancelled, run = next(
            (job, run) for job, run in jobs("RUNNING").items() if not run.startswith("003")
        )
        slurm("scancel", cancelled)
        (tmp_path / "gate").unlink()
        wait_for(lambda: not jobs("RUNNING") and run in jobs("PENDING").values())
        assert len(jobs("PENDING")) >= 3 and cancelled not in jobs("PENDING")
        slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
        said = project.ended(chain, expected=1)
    finally:
        chain.terminate()
    assert "3 of 4 runs complete" in said
    broken = [line for line in said.splitlines() if "seed nine is broken" in line]
    assert len(broken) == 2, said  # submitted again once, and not tried again inside of a job
    assert all(line.startswith("runs/.snakemake/slurm_logs/rule_sweep_run/") for line in broken)
    on_slurm = outcomes(project)
    assert len(on_slurm) == 3 and not list(project.runs.glob("sweeps/few/.tmp-*"))

    project.runs = tmp_path / "local"
    assert "3 of 4 runs complete" in project.chain("--sweep", str(sweep), expected=1)
    assert outcomes(project) == on_slurm
    assert len({json.dumps(metrics) for metrics, _ in on_slurm.values()}) == 3


@pytest.mark.slow
def test_a_chain_that_is_stopped_cancels_its_jobs(node, project, sweep, tmp_path):
    chain = project.start("--slurm", "--cores", "4", "--sweep", str(sweep))
    try:
        wait_for(lambda: len(list(tmp_path.glob("waits *"))) == 2)
        assert len(jobs("PENDING,RUNNING")) == 4
    finally:
        chain.terminate()
    project.ended(chain, expected=143)
    wait_for(lambda: not jobs("PENDING,RUNNING,COMPLETING"))
