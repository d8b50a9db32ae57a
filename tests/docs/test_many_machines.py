"""The recipes of `docs/many_machines.md`: scripts run, `glam` takes their calls, no part is missing."""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from glam.app.cli.main import app
from glam.descriptor_files import Shard

DOCS = Path(__file__).resolve().parents[2] / "docs"
PARTS = 64
GLAM = typer.main.get_command(app)


def fences(language: str) -> list[str]:
    text = (DOCS / "many_machines.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a `glam` that does nothing notes its calls, a line each, split by tabs."""
    programs, noted = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name, script in (("glam", f"printf '%s\\t' \"$@\" >> {noted}; echo >> {noted}"), ("srun", '"$@"')):
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return noted


def run(script: str, folder: Path, *, each: str = "TASK", numbers: Iterable[int] = (0,)) -> None:
    """Runs a script once for each number, which it finds in the variable ``each``."""
    (folder / "script").write_text(script)
    loop = f"for number in {' '.join(map(str, numbers))}; do {each}=$number bash -eu script; done"
    environment = {**os.environ, "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(
        ["bash", "-euc", loop], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def taken(call: list[str]) -> dict[str, Any]:
    """What a call means to the command line; it fails where the call has other options or too few."""
    command: Any = GLAM
    rest = list(call)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    params: dict[str, Any] = command.make_context(call[0], rest).params
    return params


def noted_calls(calls: Path) -> list[list[str]]:
    return [line.rstrip("\t").split("\t") for line in calls.read_text().splitlines()]


def check_parts(described: list[dict[str, Any]], built: dict[str, Any]) -> None:
    """Every image is in one part, each part in a file of its own, and the index takes them all."""
    shards = [Shard.parse(call["shard"]) for call in described]
    total = 1000
    assert sorted(i for shard in shards for i in shard.indices(total)) == list(range(total))
    outs = [call["out"] for call in described]
    assert sorted(outs) == sorted(built["descriptors"])
    assert len(set(outs)) == PARTS
    for name in ("model", "size", "scales"):
        assert {call[name] for call in described} == {built[name]}
    assert {str(call["source"]) for call in described} == {str(built["folder"])}


def test_slurm(calls: Path, tmp_path: Path) -> None:
    describe, index = fences("bash")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", describe, re.MULTILINE))
    first, last = options["array"].split("-")
    run(describe, tmp_path, each="SLURM_ARRAY_TASK_ID", numbers=range(int(first), int(last) + 1))
    run(index, tmp_path)
    *described, built = [taken(call) for call in noted_calls(calls)]
    check_parts(described, built)
    calls.unlink()
    (tmp_path / "parts" / "17.safetensors").touch()
    run(describe, tmp_path, each="SLURM_ARRAY_TASK_ID", numbers=[17])
    assert not calls.exists()  # what is there is not described again


def test_kubernetes(calls: Path, tmp_path: Path) -> None:
    describe, index = (yaml.safe_load(text) for text in fences("yaml"))
    for job in (describe, index):
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
        assert (job["apiVersion"], job["kind"], pod["restartPolicy"]) == ("batch/v1", "Job", "Never")
    assert describe["spec"]["completionMode"] == "Indexed"
    completions = range(describe["spec"]["completions"])
    run(script_of(describe, tmp_path), tmp_path, each="JOB_COMPLETION_INDEX", numbers=completions)
    run(script_of(index, tmp_path), tmp_path)
    *described, built = [taken(call) for call in noted_calls(calls)]
    check_parts(described, built)
    assert (built["backend"], built["uri"]) == ("milvus", "http://milvus:19530")


def script_of(job: dict[str, Any], root: Path) -> str:
    """What the container runs, with /index in a folder of the test."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/bash", "-euc"]
    (script,) = container["args"]
    return str(script).replace("/index", str(root))
