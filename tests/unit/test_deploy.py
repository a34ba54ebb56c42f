"""scripts/deploy.py with a stand-in for SAM, which writes down what it is called with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from samcli.cli.types import CfnParameterOverridesType

from tests.stack import heeding_interrupts, wait_for

ROOT = Path(__file__).parents[2]
SAM = """#!{python} -IS
import json, os, sys
print(json.dumps([os.environ.get("ARCHITECTURE"), *sys.argv[1:]]), file=open({calls!r}, "a"))
"""
LIST = '["Architecture=x86_64", "OptionA=Cats"]'
Deploy = Callable[..., list[list[str]]]


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts/deploy.py", tmp_path / "scripts")
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")  # without what takes half a second to read
    parameters = template[template.index("\nParameters:") : template.index("\nRules:")]
    (tmp_path / "template.yaml").write_text(parameters, encoding="utf-8")
    sam, calls = tmp_path / "sam", tmp_path / "calls"
    sam.write_text(SAM.format(python=sys.executable, calls=str(calls)), encoding="utf-8")
    sam.chmod(0o700)

    def deploy(overrides: str, *options: str) -> list[list[str]]:
        """Deploy with *overrides* in samconfig.toml; return the architecture and the arguments of each call of SAM."""
        config = f"[dev.deploy.parameters]\nparameter_overrides = {overrides}\n"
        (tmp_path / "samconfig.toml").write_text(config, encoding="utf-8")
        env = os.environ | {"CHECK": "0"}
        subprocess.run([sys.executable, script, str(sam), "dev", *options], env=env, check=True)
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return deploy


def overrides_of(call: list[str]) -> dict[str, str]:
    """The parameters of a call, as SAM reads them: those of the last list."""
    assert call.count("--parameter-overrides") == 1
    given = call[call.index("--parameter-overrides") + 1 :]
    return dict(CfnParameterOverridesType().convert(tuple(given), None, None))


def refusal(deploy: Deploy, capfd: pytest.CaptureFixture[str], overrides: str, *options: str) -> str:
    """The one line on a deployment that is refused before anything is built."""
    with pytest.raises(subprocess.CalledProcessError):
        deploy(overrides, *options)
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("""'OptionA="Green Tea'""", "parameter_overrides of dev: OptionA: write Name=value"),
        ("""'OptionA=Green Tea OptionB=Coffee'""", "parameter_overrides of dev: OptionA: write Name=value"),
        ("""["OptionAA=Tea"]""", "template.yaml has no parameter OptionAA; is it OptionA?"),
        ("[", "samconfig.toml is not valid TOML"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(
    deploy: Deploy, capfd: pytest.CaptureFixture[str], overrides: str, words: str
) -> None:
    assert words in refusal(deploy, capfd, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        r'["Architecture=x86_64", "Rollout=AllAtOnce", "Release=\"\""]',
        r'''"Architecture=\"x86_64\" Rollout=\"AllAtOnce\" Release=\"1700000000\""''',
        '{ Architecture = "x86_64", Rollout = "AllAtOnce", Release = "" }',
    ],
    ids=["a list, as by hand", "a string, as sam deploy --guided saves it", "a table"],
)
def test_parameters_of_either_spelling_are_deployed_as_a_new_release(deploy: Deploy, overrides: str) -> None:
    build, run = deploy(overrides)
    assert (build[0], build[1], run[1]) == ("x86_64", "build", "deploy")
    assert overrides_of(build) == {"Architecture": "x86_64", "Rollout": "AllAtOnce"}
    assert int(overrides_of(run).pop("Release")) > 1700000000


def test_saved_values_that_are_empty_or_have_spaces_and_quotes_stay_whole(deploy: Deploy) -> None:
    build, _ = deploy(r"""'OptionA="Green \"Tea\"" AlarmEmail="" SubnetIds="a,b" Options="Tea|Iced tea"'""")
    expected = {"OptionA": 'Green "Tea"', "AlarmEmail": "", "SubnetIds": "a,b", "Options": "Tea|Iced tea"}
    assert overrides_of(build) == expected


def test_the_hours_of_a_club_reach_sam_in_one_piece(deploy: Deploy) -> None:
    listed = tomllib.loads((ROOT / "samconfig.toml").read_text())["club"]["deploy"]["parameters"]["parameter_overrides"]
    for call in deploy(json.dumps(listed)):
        assert overrides_of(call)["WorkerSchedule"] == "cron(* 17-22 ? * FRI *)"


# ---------------------------------------------------------------- parameters among the options


@pytest.mark.parametrize(
    ("options", "added"),
    [
        (["--parameter-overrides", "RedisUrl=rediss://u:p@r/0?a=b"], {"RedisUrl": "rediss://u:p@r/0?a=b"}),
        (["--parameter-overrides=OptionB=Dogs", "Egress=nat"], {"OptionB": "Dogs", "Egress": "nat"}),
        (
            ["--parameter-overrides", "OptionB=Dogs", "--no-execute-changeset", "--parameter-overrides=Egress=nat"],
            {"OptionB": "Dogs", "Egress": "nat"},
        ),
        (["--parameter-overrides", "OptionB=Dogs Egress=nat"], {"OptionB": "Dogs", "Egress": "nat"}),
        (["--parameter-overrides", "OptionA=Green Tea"], {"OptionA": "Green Tea"}),
        (["--parameter-overrides", 'OptionA="Green Tea"', "OptionB='x y'"], {"OptionA": "Green Tea", "OptionB": "x y"}),
        (["--parameter-overrides", r"OptionA=Green\ Tea"], {"OptionA": "Green Tea"}),
        (["--parameter-overrides", 'OptionA=5" pipe, "new"'], {"OptionA": '5" pipe, "new"'}),
        (["--parameter-overrides", "SubnetIds=subnet-1, subnet-2"], {"SubnetIds": "subnet-1, subnet-2"}),
        (["--parameter-overrides", "AlarmEmail="], {"AlarmEmail": ""}),
        (["--parameter-overrides", "ParameterKey=Egress,ParameterValue=nat"], {"Egress": "nat"}),
        (["--parameter-overrides", "ParameterKey=OptionA,ParameterValue=Green Tea"], {"OptionA": "Green Tea"}),
        (["--parameter-overrides", "OptionA=Dogs", "--parameter-overrides", "OptionA=Ants"], {"OptionA": "Ants"}),
    ],
)
def test_they_are_added_to_those_of_the_environment_and_win(
    deploy: Deploy, options: list[str], added: dict[str, str]
) -> None:
    build, run = deploy(LIST, *options)
    assert overrides_of(build) == {"Architecture": "x86_64", "OptionA": "Cats"} | added
    assert overrides_of(run).items() >= overrides_of(build).items()
    assert ("--no-execute-changeset" in run) == ("--no-execute-changeset" in options)


def test_they_may_stand_in_a_file(deploy: Deploy, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text('{"OptionB": "Green Tea", "CacheNodes": 1, "SubnetIds": ["a", "b"]}', encoding="utf-8")
    build, _ = deploy(LIST, "--parameter-overrides", f"file://{file}")
    assert overrides_of(build).items() >= {"OptionB": "Green Tea", "CacheNodes": "1", "SubnetIds": "a,b"}.items()


def test_what_is_built_and_deployed_follows_them(deploy: Deploy) -> None:
    build, run = deploy(LIST, "--parameter-overrides", "Architecture=arm64", "Release=hotfix")
    assert build[0] == overrides_of(build)["Architecture"] == overrides_of(run)["Architecture"] == "arm64"
    assert overrides_of(run)["Release"] == "hotfix"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parameter-overrides", "RedisURL=redis://secret"], "has no parameter RedisURL; is it RedisUrl?"),
        (["--parameter-overrides", "Zzz=1"], "has no parameter Zzz\n"),
        (["--parameter-overrides", "OptionA=Green Tea OptionB=secret"], "OptionA: write Name=value"),
        (["--parameter-overrides", 'OptionA="secret'], "OptionA: write Name=value"),
        (["--parameter-overrides", '{"RedisUrl": "secret"}'], "a parameter: write Name=value"),
        (["--parameter-overrides", "OptionA=secret\\"], "no way to say this value of OptionA"),
        (["--parameter-overrides", "file:///no/such.json"], "/no/such.json"),
        (["--config-env", "prod"], "--config-env: say ENV=… in its place"),
        (["--config-env=prod"], "--config-env: say ENV=… in its place"),
        (["-t", "other.yaml"], "-t: what was built of template.yaml is deployed"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_build_without_its_value(
    deploy: Deploy, capfd: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    error = refusal(deploy, capfd, LIST, *options)
    assert words in error
    assert "secret" not in error


def test_other_options_go_to_the_deployment_as_they_are(deploy: Deploy) -> None:
    options = ["--stack-name", "other", "--region", "eu-west-1", "--tags", "a=b", "c=d", "--s3-prefix=p"]
    build, run = deploy(LIST, *options, "--parameter-overrides", "OptionB=x")
    assert build[1:3] == ["build", "--parameter-overrides"]
    assert run[1 : run.index("--parameter-overrides")] == ["deploy", "--config-env", "dev", *options]


def test_what_a_guided_deployment_saves_is_no_release(deploy: Deploy) -> None:
    _, run = deploy(LIST, "--guided")
    assert "Release" not in overrides_of(run)


def test_make_leaves_quotes_in_its_arguments_to_the_shell(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python, calls = tmp_path / "bin" / "python", tmp_path / "calls"
    python.write_text(SAM.format(python=sys.executable, calls=str(calls)), encoding="utf-8")
    python.chmod(0o700)
    (tmp_path / ".dev").touch()
    arguments = ["ENV=prod", """ARGS=--parameter-overrides "OptionA=Green Tea" Egress=nat"""]
    subprocess.run(["make", "-C", str(ROOT), f"VENV={tmp_path}", "deploy", *arguments], check=True, capture_output=True)
    _, _, sam, *words = json.loads(calls.read_text())
    assert (sam, words) == (
        f"{tmp_path}/bin/sam",
        ["prod", "--parameter-overrides", "OptionA=Green Tea", "Egress=nat"],
    )


# ---------------------------------------------------------------- The check of the account

VOTECTL = """import json, sys
print(json.dumps(sys.argv[1:]), file=open({calls!r}, "a"))
sys.exit({code})
"""


@pytest.fixture
def checked_deploy(tmp_path: Path, deploy: Deploy):
    """Deploy with a stand-in for votectl, too; return the exit code and the calls of both."""
    script, sam, calls = (tmp_path / name for name in ("scripts/deploy.py", "sam", "calls"))
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


@pytest.mark.parametrize("while_", ["build", "deploy"])
def test_interrupted_it_says_what_goes_on_and_shows_no_traceback(deploy: Deploy, tmp_path: Path, while_: str) -> None:
    deploy(LIST)  # writes the configuration
    pid = tmp_path / "pid"
    sam = tmp_path / "sam"
    sam.write_text(
        f'#!/bin/sh\n[ "$1" = {while_} ] || exit 0\necho $$ > {pid}.new; mv {pid}.new {pid}\nexec sleep 60\n'
    )
    words = [sys.executable, str(tmp_path / "scripts/deploy.py"), str(sam), "dev"]
    env = os.environ | {"CHECK": "0"}
    with heeding_interrupts():
        process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with process:
        wait_for(lambda: pid.exists() or None, "the SAM CLI")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.count("\n") == 1, error
    assert "goes on" in error
