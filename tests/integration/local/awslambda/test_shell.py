"""Functions do not see the owner's AWS files and variables: covers environment and account."""

import json
from pathlib import Path

import pytest

from tests.integration.local.project import Project, get

CALLS_ANOTHER = """
import json, os
import boto3
def handler(event, context):
    client = boto3.client("lambda")
    answer = client.invoke(FunctionName="TickFunction", Payload=b"{}")
    body = {"status": answer["StatusCode"], "url": client.meta.endpoint_url, "env": dict(os.environ)}
    return {"statusCode": 200, "body": json.dumps(body)}
"""
ELSEWHERE = "http://127.0.0.1:1"
MODELS = ".aws/models/lambda/2015-03-31/service-2.json"
FILES = {
    "a syntax error": {".aws/config": "this is [no configuration"},
    "bytes": {".aws/config": "\udcff\udcfe\0", ".aws/credentials": "\udcff"},
    "another endpoint": {
        ".aws/config": f"[default]\nendpoint_url = {ELSEWHERE}\nservices = mine\n"
        f"[services mine]\nlambda =\n  endpoint_url = {ELSEWHERE}\n"
    },
    "other credentials": {
        ".aws/config": "[default]\ncredential_process = touch {home}/called\nsso_session = none\nsso_account_id = 1\n",
        ".aws/credentials": "[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n",
    },
    "modes that are none": {
        ".aws/config": "[default]\nretry_mode = bogus\nmax_attempts = many\ndefaults_mode = bogus\n"
        "use_fips_endpoint = true\nca_bundle = /nonexistent\nregion = no region\nsigv4a_signing_region_set = x\n"
    },
    "models of services": {MODELS: "no JSON", ".aws/config": "[default]\napi_versions =\n  lambda = 1999-01-01\n"},
}
VARIABLES = {
    "a profile that does not exist": {"AWS_PROFILE": "nosuch", "AWS_DEFAULT_PROFILE": "nosuch"},
    "another endpoint": {"AWS_ENDPOINT_URL": ELSEWHERE, "AWS_ENDPOINT_URL_LAMBDA": ELSEWHERE},
    "proxies": {
        name: ELSEWHERE for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
    },
    "files elsewhere": {
        "AWS_CONFIG_FILE": "/etc/passwd",
        "AWS_SHARED_CREDENTIALS_FILE": "/etc/passwd",
        "AWS_DATA_PATH": "/etc",
        "AWS_CA_BUNDLE": "/nonexistent",
        "REQUESTS_CA_BUNDLE": "/nonexistent",
        "SSL_CERT_FILE": "/nonexistent",
    },
    "modes that are none": {
        "AWS_RETRY_MODE": "bogus",
        "AWS_MAX_ATTEMPTS": "many",
        "AWS_DEFAULTS_MODE": "bogus",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "bogus",
        "AWS_ACCOUNT_ID_ENDPOINT_MODE": "bogus",
        "AWS_REGION": "no region",
        "AWS_DEFAULT_REGION": "-",
    },
    "credentials": {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": ELSEWHERE,
    },
}


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def write(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text.replace("{home}", str(home)), encoding="utf-8", errors="surrogateescape")


def call(project: Project, env: dict[str, str]) -> dict:
    """Serve a function that invokes another one from a shell with *env*; return what it says of that."""
    # A variable that the template declares comes from the shell, but for those of AWS.
    declared = project.template().replace("OPTION: none", 'OPTION: none\n          AWS_USE_DUALSTACK_ENDPOINT: "false"')
    (project.folder / "template.yaml").write_text(declared, encoding="utf-8")
    (project.folder / "web" / "app.py").write_text(CALLS_ANOTHER, encoding="utf-8")
    run = project.up("--no-reload", env={"REDIS_URL": "redis://127.0.0.1:1/0", **env})
    said = get(run["http"])
    assert (said["status"], said["url"]) == (200, run["lambda"])
    return said["env"]


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_files_in_the_home_folder_change_nothing(project, home, files) -> None:
    write(home, files)
    env = call(project, {"HOME": str(home)})
    assert not (home / "called").exists()
    assert str(home) not in json.dumps(env)


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
def test_variables_of_the_shell_change_nothing(project, variables) -> None:
    env = call(project, variables)
    assert not set(variables.items()) & set(env.items())


def test_a_region_of_the_shell_is_the_functions_region(project) -> None:
    assert call(project, {"AWS_REGION": "ap-southeast-2"})["AWS_REGION"] == "ap-southeast-2"
