"""What the workflows may do, and with whose code. `make check` holds them to GitHub's schema; GitHub has run none."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DEPLOY = ROOT / ".github" / "workflows" / "deploy.yml"
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """All jobs of all workflows, each with a name."""
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield f"{path.stem}/{name}", job


def runs(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_and_names_its_version(path: Path) -> None:
    uses = [line.strip().removeprefix("- ") for line in path.read_text().splitlines() if "uses:" in line]
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


def test_one_version_of_an_action_is_used_everywhere() -> None:
    used = {match for path in WORKFLOWS for match in re.findall(r"uses: (\S+)@(\S+)", path.read_text())}
    assert len({name for name, _ in used}) == len(used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_runs_no_code_of_strangers_with_rights(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    events = workflow[True]  # YAML 1.1 takes `on` for that
    assert {"pull_request_target", "workflow_run", "issue_comment"} & events.keys() == set()
    assert "secrets." not in path.read_text()
    # Text of others never becomes part of a command.
    assert [run for job in workflow["jobs"].values() for run in runs(job) if "${{" in run] == []


def test_who_may_ask_for_a_token_for_aws_has_an_environment_or_is_no_fork() -> None:
    asking = {name: job for name, job in jobs() if job.get("permissions", {}).get("id-token") == "write"}
    assert asking.keys() == {"deploy/change-set", "deploy/dev", "deploy/prod"}
    for name, job in asking.items():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
        if name == "deploy/change-set":
            assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]
            assert "environment" not in job  # its rights are those of the subject repo:…:pull_request
        else:
            assert job["environment"] == name.partition("/")[2]
    assert "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'" in asking["deploy/dev"]["if"]
    assert asking["deploy/prod"]["needs"] == "dev"


def test_credentials_come_after_what_is_installed() -> None:
    for name, job in jobs():
        steps = [step.get("uses", step.get("run", "")) for step in job["steps"]]
        for place, step in enumerate(steps):
            if step.startswith("aws-actions/"):
                assert steps[place - 1].startswith("make .venv/.dev"), name


def test_one_deployment_of_an_environment_at_a_time_and_none_is_cut_off() -> None:
    groups = {name: job["concurrency"] for name, job in read(DEPLOY)["jobs"].items()}
    assert len({one["group"] for one in groups.values()}) == len(groups)
    assert not any(one["cancel-in-progress"] for one in groups.values())


@pytest.mark.parametrize("name", ["change-set", "dev", "prod"])
def test_a_job_gives_make_what_it_takes(name: str) -> None:
    command = runs(read(DEPLOY)["jobs"][name])[-1]
    variables = {"EXECUTION_ROLE": "arn:aws:iam::1:role/e", "BOUNDARY": "arn:aws:iam::1:policy/b"}
    words = shlex.split(re.sub(r"\$(\w+)", lambda match: variables[match[1]], command))
    environment = words[2].removeprefix("ENV=")
    assert environment == ("dev" if name == "change-set" else name)
    assert environment in tomllib.loads((ROOT / "samconfig.toml").read_text())
    dry = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    program = "change_set.py" if name == "change-set" else "deploy.py"
    assert f"scripts/{program}" in dry
    assert words[3].removeprefix("ARGS=") in dry
