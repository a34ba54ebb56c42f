"""What is downloaded is pinned by its digest, and what is pinned is asked about."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOCKS = sorted([*(ROOT / "requirements").glob("*.txt"), ROOT / "layers" / "voting" / "requirements.txt"])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+")


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A stand-in for pip-audit that notes what it is asked, and finds something in what runs the tests."""
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *dev.txt*) exit 1;; esac\n')
    program.chmod(0o755)
    return program


def test_every_lock_is_asked_about_though_one_is_affected(asked: Path) -> None:
    done = subprocess.run([ROOT / "scripts" / "audit", asked, "-s", "osv"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1
    lines = (asked.parent / "asked").read_text().splitlines()
    assert sorted(line.split(" -r ")[1] for line in lines) == [f"{path.relative_to(ROOT)} -s osv" for path in LOCKS]
    assert all("--strict" in line for line in lines)  # what cannot be asked about is not well


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_one_version_of_each_package_and_its_digests_and_no_address(lock: Path) -> None:
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    assert "://" not in text
    left = PINNED.sub("", text).strip()
    assert left == "", left[:200]


def test_every_lock_is_made_by_make_lock() -> None:
    made = (ROOT / "scripts" / "lock").read_text()
    for lock in LOCKS:
        assert str(lock.relative_to(ROOT)) in made


@pytest.mark.parametrize("script", ["scripts/venv", "layers/voting/Makefile"])
def test_what_is_installed_is_compared_with_its_digest_and_runs_no_code_meanwhile(script: str) -> None:
    text = (ROOT / script).read_text()
    assert text.count("pip install") == text.count("--require-hashes") == text.count("--only-binary=:all:") == 1


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_an_action_is_named_by_its_commit_and_may_read_only(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action) for action in used)
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_dependabot_looks_after_each_folder_of_locks_and_the_actions() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = {folder for update in updates if update["package-ecosystem"] == "pip" for folder in update["directories"]}
    assert folders == {f"/{lock.parent.relative_to(ROOT)}" for lock in LOCKS}
    assert "github-actions" in {update["package-ecosystem"] for update in updates}
    assert not list(ROOT.glob("package*.json"))  # npm would be one more


def test_the_audit_runs_by_itself() -> None:
    (audit,) = [text for path in WORKFLOWS if "make audit" in (text := path.read_text())]
    assert re.search(r"schedule:\n +- cron:", audit)
    assert "pull_request:" in audit
