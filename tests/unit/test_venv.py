"""scripts/venv, as the Makefile calls it, with a lock file that names nothing."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "venv"


def test_a_half_made_environment_is_made_anew(tmp_path: Path):
    environment, lock = tmp_path / "venv", tmp_path / "lock.txt"
    lock.touch()
    # As an interrupted `python -m venv` leaves it: the interpreter comes first, pip last.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (environment / "left-over").touch()
    subprocess.run([SCRIPT, sys.executable, environment, lock], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "--version"]
    assert subprocess.run(pip, check=False, capture_output=True).returncode == 0
    assert not (environment / "left-over").exists()
    (environment / "kept").touch()
    subprocess.run([SCRIPT, sys.executable, environment, lock], check=True)
    assert (environment / "kept").exists()
