"""`sam build`, then `sam package` with an upload to S3 as moto plays it.

It proves that the build needs no container, and that what lands in the bucket is what the packaged template points to:
each function's own code, and one layer with the package, its libraries and RDS's certificates. test_deploy.py goes on
to `sam deploy`.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer
from samcli.yamlhelper import yaml_parse

from tests.sam.conftest import SAM, SAM_ENV, Build, run
from tests.sam.expansion import REGION, TEMPLATE
from votectl.rotation.stack import PACKAGED

BUCKET = "artifacts"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def packaged_text(s3: Any, builds: Mapping[str, Build], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The packaged template, its artifacts uploaded."""
    output = tmp_path_factory.mktemp("package") / "packaged.yaml"
    template = builds["arm64"].folder / "template.yaml"
    words = ["package", "--template-file", str(template), "--s3-bucket", BUCKET, "--output-template-file", str(output)]
    run([str(SAM), *words], **SAM_ENV, **ACCOUNT, AWS_ENDPOINT_URL_S3=s3.meta.endpoint_url)
    return output.read_text()


@pytest.fixture(scope="module")
def packaged(packaged_text: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml_parse(packaged_text)
    return document


def names_in(s3: Any, uri: str) -> set[str]:
    """The files in the uploaded zip."""
    assert urlsplit(uri).netloc == BUCKET
    body = s3.get_object(Bucket=BUCKET, Key=urlsplit(uri).path.removeprefix("/"))["Body"].read()
    return set(zipfile.ZipFile(io.BytesIO(body)).namelist())


def test_each_function_brings_its_own_code_and_no_libraries(s3: Any, packaged: Mapping[str, Any]) -> None:
    functions = {
        name: one["Properties"]["CodeUri"]
        for name, one in packaged["Resources"].items()
        if one["Type"] == "AWS::Serverless::Function"
    }
    assert functions.pop("LiveSmokeFunction") == functions["SmokeFunction"]
    assert len(functions) == len(set(functions.values())) == 8
    for name, uri in functions.items():
        files = names_in(s3, uri)
        assert "app.py" in files, name
        assert not [file for file in files if file.startswith(("voting/", "redis/", "boto3/"))], name


def test_the_layer_brings_the_package_its_libraries_and_the_certificates(s3: Any, packaged: Mapping[str, Any]) -> None:
    files = names_in(s3, packaged["Resources"]["VotingLayer"]["Properties"]["ContentUri"])
    for wanted in (
        "voting/queue/vote_queue.py",
        "voting/queue/scripts/claim.lua",
        "voting/queue/scripts/shared/oldest.lua",
        "voting/database/schema.sql",
        "voting/broadcast/scripts/read_state.lua",
        "redis/client.py",
        "psycopg/connection.py",
    ):
        assert f"python/{wanted}" in files
    bundle = packaged["Parameters"]["DatabaseCaBundle"]["Default"]
    assert bundle.removeprefix("/opt/") in files


def test_packaging_changes_nothing_but_where_the_code_is(packaged: Mapping[str, Any]) -> None:
    written = yaml_parse(TEMPLATE.read_text())
    assert packaged["Rules"] == written["Rules"]
    assert packaged["Resources"].keys() == written["Resources"].keys()
    assert packaged["Parameters"] == written["Parameters"]


def test_a_rotation_finds_the_bucket_in_it(packaged_text: str) -> None:
    found = PACKAGED.search(packaged_text)
    assert found is not None
    assert found[1] == BUCKET
