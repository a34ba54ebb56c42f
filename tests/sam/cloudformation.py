"""CloudFormation for the SAM CLI to deploy to: moto's, with what it lacks for that.

- It applies SAM's transform, as CloudFormation does with the parameters that arrive, to a template that asks for it.
- A stack that a change set made has outputs, so that the SAM CLI finds the bucket that it has made itself.
- It keeps each call of CreateChangeSet as it arrived: moto forgets the capabilities, and who asked for a former value.

It evaluates neither Rules nor AllowedValues nor patterns, and never says what a change set would replace.
"""

import copy
import os
import re
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.cloudformation import responses
from moto.cloudformation.models import ChangeSet
from moto.server import ThreadedMotoServer
from samcli.yamlhelper import yaml_parse

from tests.sam.conftest import SAM, SAM_ENV, TIMEOUT_S
from tests.sam.expansion import REGION, translate

ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# With its last space: before it, what is typed as the answer to a hidden question is thrown away.
_QUESTION = re.compile(r"\x1b\[1m(?P<what>[^\x1b]*)\x1b\[0m[^\n]*: $")


@dataclass(frozen=True)
class Asked:
    """One call of CreateChangeSet."""

    stack: str
    kind: str
    parameters: Mapping[str, str]
    former: frozenset[str]  # the parameters that keep their value
    tags: Mapping[str, str]
    capabilities: Sequence[str]
    url: str
    role: str | None  # that CloudFormation works with


@dataclass
class CloudFormation:
    url: str
    asked: list[Asked] = field(default_factory=list)

    def client(self, region: str = REGION) -> Any:
        return boto3.client(
            "cloudformation",
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @property
    def env(self) -> dict[str, str]:
        return os.environ | SAM_ENV | ACCOUNT | {"AWS_ENDPOINT_URL": self.url, "TERM": "xterm"}

    def run(self, project: Path, command: Sequence[str]) -> str:
        """Run *command* in *project*; it must succeed. Return what it said."""
        done = subprocess.run(
            command, cwd=project, env=self.env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def change_sets(self, stack: str, region: str = REGION) -> list[Mapping[str, Any]]:
        """Those of *stack*, which moto lists with those of all others, the newest at the end."""
        client = self.client(region)
        listed = client.list_change_sets(StackName=stack)["Summaries"]
        return [
            client.describe_change_set(StackName=stack, ChangeSetName=one["ChangeSetId"])
            for one in listed
            if one["StackName"] == stack
        ]


@contextmanager
def cloudformation() -> Iterator[CloudFormation]:
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        _, port = server.get_host_and_port()
        asked = CloudFormation(f"http://localhost:{port}")  # by this name, moto finds templates in buckets
        _complete(patch, asked)
        yield asked
        server.stop()


def _complete(patch: pytest.MonkeyPatch, asked: CloudFormation) -> None:
    create, apply = responses.CloudFormationResponse.create_change_set, ChangeSet.apply
    fetch = responses.get_stack_from_s3_url

    def noted(call: Any) -> Any:
        given = call._get_param("Parameters", [])
        asked.asked.append(
            Asked(
                stack=call._get_param("StackName"),
                kind=call._get_param("ChangeSetType"),
                parameters={one["ParameterKey"]: one["ParameterValue"] for one in given if "ParameterValue" in one},
                former=frozenset(one["ParameterKey"] for one in given if one.get("UsePreviousValue")),
                tags={tag["Key"]: tag["Value"] for tag in call._get_param("Tags", [])},
                capabilities=call._get_param("Capabilities"),
                url=call._get_param("TemplateURL") or "",
                role=call._get_param("RoleARN"),
            )
        )
        return create(call)

    def expanded(url: str, **words: str) -> str:
        document = yaml_parse(fetch(url, **words))
        return translate(copy.deepcopy(document), asked.asked[-1].parameters)

    def applied(change_set: ChangeSet) -> None:
        apply(change_set)
        change_set.stack.template_dict = change_set.template_dict
        change_set.stack.output_map = change_set.stack._create_output_map()

    patch.setattr(responses.CloudFormationResponse, "create_change_set", noted)
    patch.setattr(responses, "get_stack_from_s3_url", expanded)
    patch.setattr(ChangeSet, "apply", applied)


def answered(
    project: Path, env: Mapping[str, str], words: Sequence[str], answers: Mapping[str, str]
) -> tuple[int, str]:
    """Run the SAM CLI at a terminal and type an answer to each question: that of *answers*, or return alone.

    A question is what it prints in bold, without `Parameter `. Return its exit code and what was on the screen.
    """
    terminal, line = os.openpty()
    process = subprocess.Popen(
        [str(SAM), *words], cwd=project, env=env, stdin=line, stdout=line, stderr=line, start_new_session=True
    )
    os.close(line)
    screen, begun = "", 0
    try:
        while more := _read(terminal):
            screen += more
            if found := _QUESTION.search(screen, begun):
                begun = len(screen)
                question = found["what"].removeprefix("Parameter ")
                os.write(terminal, f"{answers.get(question, '')}\n".encode())
        return process.wait(TIMEOUT_S), screen
    finally:
        process.kill()  # nothing happens where it has ended
        os.close(terminal)


def _read(terminal: int) -> str:
    """The next characters, or none: the program has ended (Linux then says EIO), or says nothing more."""
    if not select.select([terminal], [], [], TIMEOUT_S)[0]:
        return ""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""
