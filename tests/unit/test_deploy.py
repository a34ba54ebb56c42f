"""scripts/deploy.py with a stand-in for SAM, which writes down what it is called with."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from samcli.cli.types import CfnParameterOverridesType

ROOT = Path(__file__).parents[2]
SAM = """#!{python}
import json, os, sys
print(json.dumps([os.environ.get("ARCHITECTURE"), *sys.argv[1:]]), file=open({calls!r}, "a"))
"""


@pytest.fixture
def deploy(tmp_path: Path):
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts/deploy.py", tmp_path / "scripts")
    sam, calls = tmp_path / "sam", tmp_path / "calls"
    sam.write_text(SAM.format(python=sys.executable, calls=str(calls)), encoding="utf-8")
    sam.chmod(0o700)

    def deploy(overrides: str) -> list[list[str]]:
        """Deploy with *overrides* in samconfig.toml; return the architecture and the arguments of each call of SAM."""
        config = f"[dev.deploy.parameters]\nparameter_overrides = {overrides}\n"
        (tmp_path / "samconfig.toml").write_text(config, encoding="utf-8")
        subprocess.run([sys.executable, script, str(sam), "dev"], env=os.environ | {"CHECK": "0"}, check=True)
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return deploy


def overrides_of(call: list[str]) -> dict[str, str]:
    """The parameters of a call, as SAM reads them."""
    given = call[call.index("--parameter-overrides") + 1 :]
    return dict(CfnParameterOverridesType().convert(tuple(given), None, None))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("""'OptionA="Green Tea'""", "parameter_overrides of dev: No closing quotation"),
        ("[", "samconfig.toml is not valid TOML"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(deploy, capfd, overrides, words):
    with pytest.raises(subprocess.CalledProcessError):
        deploy(overrides)
    error = capfd.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "overrides",
    [
        '["Architecture=x86_64", "Rollout=AllAtOnce", "Release="]',
        r'''"Architecture=\"x86_64\" Rollout=\"AllAtOnce\" Release=\"1700000000\""''',
    ],
    ids=["a list, as by hand", "a string, as sam deploy --guided saves it"],
)
def test_parameters_of_either_spelling_are_deployed_as_a_new_release(deploy, overrides):
    build, run = deploy(overrides)
    assert (build[0], build[1], run[1]) == ("x86_64", "build", "deploy")
    assert overrides_of(build) == {"Architecture": "x86_64", "Rollout": "AllAtOnce"}
    assert int(overrides_of(run).pop("Release")) > 1700000000


def test_saved_values_that_are_empty_or_have_spaces_and_quotes_stay_whole(deploy):
    build, _ = deploy(r"""'OptionA="Green \"Tea\"" AlarmEmail="" SubnetIds="a,b"'""")
    assert overrides_of(build) == {"OptionA": 'Green "Tea"', "AlarmEmail": "", "SubnetIds": "a,b"}


def test_the_hours_of_a_club_reach_sam_in_one_piece(deploy):
    listed = tomllib.loads((ROOT / "samconfig.toml").read_text())["club"]["deploy"]["parameters"]["parameter_overrides"]
    for call in deploy(json.dumps(listed)):
        assert overrides_of(call)["WorkerSchedule"] == "cron(* 17-22 ? * FRI *)"


# ---------------------------------------------------------------- The check of the account

VOTECTL = """import json, sys
print(json.dumps(sys.argv[1:]), file=open({calls!r}, "a"))
sys.exit({code})
"""


@pytest.fixture
def checked_deploy(tmp_path: Path):
    """Deploy with a stand-in for votectl, too; return the exit code and the calls of both."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts/deploy.py", tmp_path / "scripts")
    sam, calls = tmp_path / "sam", tmp_path / "calls"
    sam.write_text(SAM.format(python=sys.executable, calls=str(calls)), encoding="utf-8")
    sam.chmod(0o700)
    config = '[dev.deploy.parameters]\nparameter_overrides = ["OptionA=Green Tea", "Release="]\n'
    (tmp_path / "samconfig.toml").write_text(config, encoding="utf-8")

    def deploy(code: int, *options: str, check: str = "") -> tuple[int, list[list[str]]]:
        (tmp_path / "votectl.py").write_text(VOTECTL.format(calls=str(calls), code=code), encoding="utf-8")
        words = [sys.executable, str(script), str(sam), "dev", *options]
        done = subprocess.run(words, env=os.environ | {"CHECK": check}, check=False)
        return done.returncode, [json.loads(one) for one in calls.read_text().splitlines()]

    return deploy


def test_a_problem_of_the_account_stops_before_the_build(checked_deploy, capfd):
    code, calls = checked_deploy(1)
    assert (code, calls) == (1, [["account", "--env", "dev", "--parameters", "OptionA=Green Tea"]])
    assert "CHECK=0 deploys all the same" in capfd.readouterr().err


def test_an_account_without_a_problem_is_deployed_to(checked_deploy):
    code, calls = checked_deploy(0)
    assert code == 0
    assert [call[0] if call[0] == "account" else call[1] for call in calls] == ["account", "build", "deploy"]


def test_the_check_looks_where_sam_deploys_to(checked_deploy):
    _, calls = checked_deploy(1, "--region", "eu-west-1", "--stack-name=vote", "--no-confirm-changeset")
    assert calls == [
        ["account", "--env", "dev", "--region=eu-west-1", "--stack=vote", "--parameters", "OptionA=Green Tea"]
    ]


def test_check_0_asks_nothing(checked_deploy):
    code, calls = checked_deploy(1, check="0")
    assert code == 0
    assert [call[1] for call in calls] == ["build", "deploy"]
