"""`python -m votectl` in a shell with a broken AWS configuration: one sentence and an exit code.

Covers aws_client.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.template.account import Account
from tests.aws_front import aws_front
from tests.stack import ROOT, Stack

NOWHERE = "http://127.0.0.1:1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a-secret-key"}
SESSION = "[sso-session mine]\nsso_region = eu-west-1\nsso_start_url = http://127.0.0.1:1\n"
SSO = "[default]\nsso_session = {}\nsso_account_id = 1\nsso_role_name = x\n"

# The file ~/.aws/config, the variables, and a word of the answer.
BROKEN = {
    "a syntax error": ("not ini [", {}, "Unable to parse config file"),
    "bytes": ("\udcff\udcfe", {}, "Unable to parse config file"),
    "a nested value without a name": ("[default]\nlambda =\n  bogus\n", {}, "Unable to parse config file"),
    "no such profile": ("", {"AWS_PROFILE": "nosuch"}, "nosuch"),
    "no region": ("", {**KEYS, "AWS_REGION": ""}, "region"),
    "a region that is none": ("", {**KEYS, "AWS_REGION": "no region"}, "no region"),
    "no credentials": ("", {}, "Unable to locate credentials"),
    "half the credentials": ("", {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "AWS_SECRET_ACCESS_KEY"),
    "an endpoint that is none": ("[default]\nendpoint_url = nowhere\n", KEYS | {"AWS_ENDPOINT_URL": ""}, "nowhere"),
    "an endpoint by ftp": ("", KEYS | {"AWS_ENDPOINT_URL_LAMBDA": "ftp://x"}, "ftp"),
    "services": (
        f"[default]\nservices = s\n[services s]\nlambda =\n  endpoint_url = {NOWHERE}/s\n",
        KEYS | {"AWS_ENDPOINT_URL": ""},
        f"{NOWHERE}/s",
    ),
    "no such program for credentials": ("[default]\ncredential_process = /nonexistent/x\n", {}, "/nonexistent/x"),
    "a program that prints no credentials": ("[default]\ncredential_process = echo junk\n", {}, "set up"),
    "a quote too few": ("[default]\ncredential_process = 'x\n", {}, "quotation"),
    "no such SSO session": (SSO.format("none"), {}, "none"),
    "no SSO token": (SSO.format("mine") + SESSION, {}, "SSO"),
    "a loop of profiles": ("[default]\nrole_arn = x\nsource_profile = default\n", {}, "loop"),
    "a retry mode that is none": ("[default]\nretry_mode = bogus\n", KEYS, "bogus"),
    "a defaults mode that is none": ("", KEYS | {"AWS_DEFAULTS_MODE": "bogus"}, "bogus"),
    "attempts that are no number": ("", KEYS | {"AWS_MAX_ATTEMPTS": "many"}, NOWHERE),
    "FIPS with an endpoint": ("", KEYS | {"AWS_USE_FIPS_ENDPOINT": "true"}, NOWHERE),
    "no such bundle of certificates": ("", KEYS | {"AWS_CA_BUNDLE": "/nonexistent"}, NOWHERE),
    "a proxy that is none": ("", KEYS | {"http_proxy": "http://[x"}, "URL"),
    "a proxy that is away": ("", KEYS | {"http_proxy": "http://127.0.0.1:1"}, "proxy"),
    "no such token file": ("", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/none", "AWS_ROLE_ARN": "arn:x"}, "/none"),
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    return tmp_path


def votectl(
    home: Path, config: str, variables: dict[str, str], *arguments: str, room: tuple[str, ...] = ("ops",)
) -> subprocess.CompletedProcess[str]:
    (home / ".aws" / "config").write_text(config, encoding="utf-8", errors="surrogateescape")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": NOWHERE,  # never the real one
        "AWS_REGION": "eu-central-1",
    }
    command = [sys.executable, "-m", "votectl", *room, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=env | variables, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(("config", "variables", "word"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_a_sentence_and_exit_code_1(home, config, variables, word) -> None:
    done = votectl(home, config, variables, "--function", "some", "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("It was not done: ")
    assert word in done.stderr
    assert "~/.aws/config" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "a-secret-key" not in done.stderr


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("no region", "AWS_REGION"), ("no credentials", "`aws configure`"), ("no credentials", "AWS_PROFILE")],
)
def test_what_is_not_set_up_is_told_with_what_to_set(home, name: str, remedy: str) -> None:
    config, variables, _ = BROKEN[name]
    done = votectl(home, config, variables, "status", "--function", "some")
    assert remedy in done.stderr
    assert "was set up" not in done.stderr


def test_so_it_is_for_commands_that_work_on_a_stack(home) -> None:
    for words in (("teardown", "--stack", "some"), ("rotate", "--stack", "some", "cookie-keys"), ("account",)):
        done = votectl(home, "", {}, *words, room=())
        assert done.returncode == 1
        assert "`aws configure`" in done.stdout + done.stderr


def test_a_function_that_does_not_exist_is_told_with_where_its_name_is(home) -> None:
    with aws_front() as aws:
        for words in (("--function", "voting-dev", "status"), ("handback", "--function", "voting-dev")):
            done = votectl(home, "", KEYS | {"AWS_ENDPOINT_URL": aws.behind}, *words)
            assert (done.returncode, done.stdout) == (1, "")
            assert "function:voting-dev. " in done.stderr
            assert "OpsFunctionName" in done.stderr
            assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["a syntax error", "no such profile", "no such program for credentials"])
def test_so_it_is_with_a_schedule(home, name) -> None:
    config, variables, word = BROKEN[name]
    done = votectl(home, config, variables, "--function", "some", "handback", "--schedule", "every-minute")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("It was not done: ")
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_the_local_run_needs_no_configuration_and_reads_none(home, fresh: Stack) -> None:
    everything = {name: value for _, variables, _ in BROKEN.values() for name, value in variables.items()}
    everything["LOCAL_RUN_JSON"] = str(fresh.state_dir / "run.json")
    config = f"[default]\ncredential_process = touch {home}/called\n[broken"
    done = votectl(home, config, everything, "--json", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"] is True
    assert not (home / "called").exists()


@pytest.mark.parametrize("address", [NOWHERE, "http://127.0.0.1:70000", "http://[", "gone"])
def test_a_local_run_that_is_gone_is_a_sentence(home, address) -> None:
    run = {"http": NOWHERE, "lambda": address, "redis": "redis://127.0.0.1:1", "postgres": "postgresql://127.0.0.1:1/x"}
    run |= Account().login()
    (home / "run.json").write_text(json.dumps(run), encoding="utf-8")
    done = votectl(home, "", {"LOCAL_RUN_JSON": str(home / "run.json")}, "status")
    assert done.returncode == 1
    assert done.stderr.startswith(f"It was not done: {address} does not answer")
    assert done.stderr.count("\n") == 1
