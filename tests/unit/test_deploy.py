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
        subprocess.run([sys.executable, script, str(sam), "dev"], env=dict(os.environ), check=True)
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
    build, _ = deploy(r"""'OptionA="Green \"Tea\"" AlarmEmail="" SubnetIds="a,b" Options="Tea|Iced tea"'""")
    expected = {"OptionA": 'Green "Tea"', "AlarmEmail": "", "SubnetIds": "a,b", "Options": "Tea|Iced tea"}
    assert overrides_of(build) == expected


def test_the_hours_of_a_club_reach_sam_in_one_piece(deploy):
    listed = tomllib.loads((ROOT / "samconfig.toml").read_text())["club"]["deploy"]["parameters"]["parameter_overrides"]
    for call in deploy(json.dumps(listed)):
        assert overrides_of(call)["WorkerSchedule"] == "cron(* 17-22 ? * FRI *)"
