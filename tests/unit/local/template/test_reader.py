"""Reading a template: covers reader, intrinsics and resources."""

from pathlib import Path

import pytest

from local.template.account import Account
from local.template.intrinsics import TemplateError
from local.template.reader import Run, load
from local.template.resources import HttpRoute, Schedule, function_name

ROOT = Path(__file__).parents[4]

HEAD = """
Parameters:
  Stage: {Type: String, Default: test}
  Key: {Type: String, NoEcho: true, MinLength: 40}
  Missing: {Type: String}
Conditions:
  IsTest: !Equals [!Ref Stage, test]
  IsLive: !Not [!Condition IsTest]
Globals:
  Function:
    Runtime: python3.13
    Handler: app.handler
    Timeout: 7
    Layers: [!Ref Layer]
    Environment: {Variables: {SHARED: "1", OWN: shared}}
Resources:
  Layer: {Type: "AWS::Serverless::LayerVersion", Properties: {ContentUri: layer}}
  Api: {Type: "AWS::Serverless::HttpApi"}
  Live:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      StageName: live
      Routes: {$connect: {FunctionArn: !GetAtt First.Arn}, $default: {FunctionArn: !Ref First.Alias}}
"""
FIRST = """
  First:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: first
"""


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "layer").mkdir()
    (tmp_path / "first").mkdir()

    def write(more: str) -> Path:
        path = tmp_path / "template.yaml"
        path.write_text(HEAD + FIRST + more, encoding="utf-8")
        return path

    return write


def environment_of(path: Path, run: Run | None = None) -> dict[str, str]:
    return dict(load(path, run or Run()).functions["First"].environment)


def test_the_template_of_this_repository_is_served_whole():
    template = load(ROOT / "template.yaml", Run(variables={"REDIS_URL": "redis://x", "DATABASE_URL": "postgresql://y"}))
    assert template.http_routes
    assert template.websocket is not None
    assert template.websocket.routes.keys() >= {"$connect", "$disconnect", "$default"}
    assert [schedule.every_s for schedule in template.schedules] == [60]
    for function in template.functions.values():
        assert (function.code / "app.py").is_file()


@pytest.mark.parametrize(
    ("run", "interval_ms"),
    [
        (Run(), "250"),
        (Run(parameters={"BroadcastIntervalMs": "1000"}), "1000"),
        (Run(parameters={"BroadcastIntervalMs": "1000"}, variables={"BROADCAST_INTERVAL_MS": "500"}), "500"),
    ],
)
def test_broadcasts_are_as_far_apart_here_as_the_parameter_or_the_shell_says(run, interval_ms):
    worker = load(ROOT / "template.yaml", run).functions["WorkerFunction"]
    assert worker.environment["BROADCAST_INTERVAL_MS"] == interval_ms


def test_globals_are_merged_and_the_functions_own_win(write):
    path = write("      Environment: {Variables: {OWN: own}}\n      MemorySize: 512\n")
    function = load(path, Run()).functions["First"]
    assert function.environment == {"SHARED": "1", "OWN": "own"}
    assert (function.timeout_s, function.memory_mb, function.handler) == (7, 512, "app.handler")
    assert function.layers == (path.parent / "layer",)


def test_what_the_template_does_not_say_is_as_on_aws(write):
    function = load(write(""), Run()).functions["First"]
    assert (function.reserved_concurrency, function.retries, function.event_age_s) == (None, 2, 21600)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("!Ref Stage", "test"),
        ("!Ref First", "First"),
        ("!GetAtt First.Arn", "arn:aws:lambda:eu-west-9:123456789012:function:First"),
        ("!Sub '${Stage}-${AWS::Region}-${!kept}'", "test-eu-west-9-${kept}"),
        ("!Sub ['${A}/${Stage}', {A: !Ref Stage}]", "test/test"),
        ("!If [IsTest, yes-it-is, no]", "yes-it-is"),
        ("!If [IsLive, a, !Join ['-', [b, !Ref Stage]]]", "b-test"),
        ("!Select [1, !Split [',', 'a,b']]", "b"),
        ("true", "true"),
    ],
)
def test_intrinsic_functions_are_resolved(write, expression, value):
    path = write(f"      Environment: {{Variables: {{X: {expression} }}}}\n")
    assert environment_of(path, Run(account=Account(region="eu-west-9")))["X"] == value


def test_where_failed_events_go_has_no_local_counterpart(write):
    destination = "DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Queue.Arn}}"
    function = load(write(f"      EventInvokeConfig: {{MaximumRetryAttempts: 0, {destination}}}\n"), Run()).functions[
        "First"
    ]
    assert function.retries == 0


def test_no_value_leaves_the_property_out(write):
    more = "      ReservedConcurrentExecutions: !If [IsLive, 3, !Ref AWS::NoValue]\n"
    more += "      Environment: {Variables: {X: !If [IsLive, 3, !Ref 'AWS::NoValue']}}\n"
    function = load(write(more), Run()).functions["First"]
    assert function.reserved_concurrency is None
    assert "X" not in function.environment


def test_addresses_of_its_own_apis_become_local_ones(write):
    path = write(
        "      Environment:\n        Variables:\n"
        "          A: !Sub wss://${Live}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live\n"
        "          B: !Sub https://${Api}.execute-api.${AWS::Region}.amazonaws.com\n"
        "          C: !Sub https://${Live}.execute-api.${AWS::Region}.amazonaws.com/live\n"
        "          D: https://example.org/\n"
    )
    run = Run(http_url="http://127.0.0.1:1", websocket_url="ws://127.0.0.1:2")
    variables = environment_of(path, run)
    assert variables["A"] == "ws://127.0.0.1:2/live"
    assert variables["B"] == "http://127.0.0.1:1"
    assert variables["C"] == "http://127.0.0.1:2/live"
    assert variables["D"] == "https://example.org/"


def test_the_shell_overrides_declared_variables_and_adds_none(write):
    path = write("      Environment: {Variables: {X: !Ref Missing}}\n")
    variables = environment_of(path, Run(variables={"X": "given", "OTHER": "not declared"}))
    assert variables["X"] == "given"
    assert "OTHER" not in variables


def test_a_secret_parameter_is_made_up_with_its_least_length(write):
    path = write("      Environment: {Variables: {X: !Ref Key}}\n")
    asked = []

    def secret(name: str, length: int, former: str | None) -> str:
        asked.append((name, length, former))
        return "s" * length

    assert environment_of(path, Run(secret=secret))["X"] == "s" * 40
    assert asked == [("Key", 40, None)]
    assert environment_of(path, Run(parameters={"Key": "given"}))["X"] == "given"


SECRET = """
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {GenerateSecretString: {PasswordLength: 40}}
"""


def test_a_secret_that_the_template_generates_is_made_up(write):
    text = "redis://me:{{resolve:secretsmanager:${Secret}:SecretString:password}}@host"
    path = write(f"      Environment: {{Variables: {{X: !Sub '{text}'}}}}\n{SECRET}")
    run = Run(secret=lambda name, length, _former: name * length)
    assert environment_of(path, run)["X"] == f"redis://me:{'Secret' * 40}@host"


def test_the_name_that_a_secret_had_in_an_earlier_version_is_told(write):
    local = "\nMetadata: {Local: {FormerSecrets: {Secret: Parameter, Other: Another}}}\n"
    text = "{{resolve:secretsmanager:${Secret}}}"
    path = write(f"      Environment: {{Variables: {{X: !Sub '{text}'}}}}\n{SECRET}{local}")
    assert environment_of(path, Run(secret=lambda *asked: repr(asked)))["X"] == "('Secret', 40, 'Parameter')"


def test_what_the_template_says_of_local_runs_chooses_its_mode(write):
    path = write(
        "      Environment:\n        Variables:\n          A: !If [IsLive, live, test]\n"
        "          B: !If [IsTest, !GetAtt Db.Host, !Ref Missing]\n"
        "Metadata: {Local: {Parameters: {Stage: live, Missing: given}}}\n"
    )
    variables = environment_of(path)
    assert (variables["A"], variables["B"]) == ("live", "given")
    with pytest.raises(TemplateError, match=r"Db\.Host"):  # what this run is given wins
        environment_of(path, Run(parameters={"Stage": "test"}))


def test_no_setting_of_a_deployed_database_reaches_a_local_function():
    template = load(ROOT / "template.yaml", Run(variables={"REDIS_URL": "redis://x", "DATABASE_URL": "postgresql://y"}))
    assert template.functions["WorkerFunction"].environment["DATABASE_URL"] == "postgresql://y"
    for function in template.functions.values():
        assert not {name for name in function.environment if name.startswith("DATABASE_") and name != "DATABASE_URL"}
        assert not [value for value in function.environment.values() if "resolve:" in value]
        assert (
            function.environment["AWS_USE_DUALSTACK_ENDPOINT"] == "false"
        )  # it is refused together with a custom endpoint


def test_routes_schedules_and_the_websocket_stage_are_read(write):
    template = load(
        write(
            "      Events:\n"
            "        Page: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: get, Path: /p}}\n"
            "        Rest: {Type: HttpApi, Properties: {ApiId: !Ref Api}}\n"
            "        Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(2 hours), "
            "DeadLetterConfig: {Arn: !GetAtt Queue.Arn}, "
            "RetryPolicy: {MaximumRetryAttempts: 1, MaximumEventAgeInSeconds: 90}}}\n"
            "        Off: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 day), State: DISABLED}}\n"
        ),
        Run(),
    )
    assert template.http_api_id == "Api"
    assert template.http_routes == (HttpRoute("GET", "/p", "First"), HttpRoute("ANY", "$default", "First"))
    assert template.schedules == (Schedule("First", "FirstTick", 7200, 1, 90, None),)
    assert template.websocket is not None
    assert template.websocket.routes == {"$connect": "First", "$default": "First"}


def test_a_resource_whose_condition_does_not_hold_is_not_there(write):
    path = write(
        "  Second:\n    Type: AWS::Serverless::Function\n    Condition: IsLive\n    Properties: {CodeUri: first}\n"
    )
    assert load(path, Run()).functions.keys() == {"First"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("      Environment: {Variables: {X: !Ref Missing}}\n", ["First.Environment.Variables.X", "Missing"]),
        ("      Environment: {Variables: {X: !GetAtt Db.Host}}\n", ["First.Environment.Variables.X", "Db.Host"]),
        (
            "      Environment: {Variables: {X: '{{resolve:ssm:name}}'}}\n",
            ["First.Environment.Variables.X", "{{resolve:ssm:name}}", "no local value"],
        ),
        ("      Environment: {Variables: {X: !ImportValue y}}\n", ["Variables.X", "Fn::ImportValue", "not supported"]),
        ("      Events: {E: {Type: SQS}}\n", ["First.Events.E", "SQS", "not supported"]),
        (
            "      Events: {E: {Type: ScheduleV2, Properties: {ScheduleExpression: cron(x)}}}\n",
            ["First.Events.E", "cron"],
        ),
        ("      Runtime: nodejs22.x\n", ["First.Runtime", "nodejs22.x"]),
        ("  Second: {Type: 'AWS::Serverless::Function', Properties: {CodeUri: gone}}\n", ["Second.CodeUri", "gone"]),
        ("  : [\n", ["not valid YAML"]),
    ],
)
def test_what_cannot_be_served_is_named(write, more, words):
    with pytest.raises(TemplateError) as error:
        load(write(more), Run())
    for word in words:
        assert word in str(error.value)


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(TemplateError, match=r"none\.yaml: No such file"):
        load(tmp_path / "none.yaml", Run())


@pytest.mark.parametrize(
    "name",
    ["F", "F:live", "arn:aws:lambda:eu-central-1:1:function:F", "arn:aws:lambda:r:1:function:F:live", "1:function:F"],
)
def test_a_function_is_found_by_name_and_by_arn(name):
    assert function_name(name) == "F"


@pytest.mark.parametrize(
    "more",
    [
        "      Timeout: soon\n",
        "      MemorySize: [1]\n",
        "      Layers: 5\n",
        "      Events: [a]\n",
        "      Environment: {Variables: [A]}\n",
        "      Environment: {Variables: {A: !Join 5}}\n",
        "      Environment: {Variables: {A: !Select [9, [a]]}}\n",
        "  Second: 5\n",
        "Metadata: 5\n",
    ],
)
def test_a_value_of_the_wrong_type_is_told(write, more):
    path = write(more)
    with pytest.raises(TemplateError, match=r"template\.yaml: "):
        load(path, Run())


def test_a_template_that_is_not_utf_8_is_told(write):
    path = write("")
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    with pytest.raises(TemplateError, match="UTF-8"):
        load(path, Run())
