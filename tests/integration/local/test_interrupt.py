"""Ctrl-C at any moment of a start leaves no stack trace, process or lock: covers run, signals and command_line."""

import signal
import time
from pathlib import Path

import pytest

from local.host.state_dir import StateDir
from tests.integration.local.project import DEADLINE_S, Project, until

MOMENTS_S = (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.95)


def begun(pid: int) -> bool:
    """Whether our code runs, and not yet the interpreter's start: Python itself leaves SIGTERM alone."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("moment_s", MOMENTS_S)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_second_ends_it_without_a_trace(project: Project, number, moment_s) -> None:
    process = project.start(env={"REDIS_URL": "redis://127.0.0.1:1/0"} if moment_s < 0.5 else None)
    until(lambda: begun(process.pid))
    time.sleep(moment_s)  # the moment is what is tried
    process.send_signal(number)
    # Zero: it had begun to serve, and was stopped as it is meant to be.
    assert process.wait(DEADLINE_S) in {128 + number, 0}, project.output()
    assert "Traceback" not in project.output()
    assert project.children() == []
    assert StateDir(project.state).holder() is None
    assert not (project.state / "run.json").exists()


def test_ctrl_c_before_anything_is_begun_is_the_shells_130(project: Project) -> None:
    process = project.start()
    until(lambda: begun(process.pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert project.output() == ""


def test_an_impatient_ctrl_c_shows_no_stack_either(project: Project) -> None:
    project.up()
    process = project.processes[0]
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.returncode in {0, 1}  # 1: at the third it ends at once
    assert "Traceback" not in project.output()
    until(lambda: project.children() == [])
