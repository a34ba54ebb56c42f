"""Small projects that `python -m local` serves: two functions, so that a start takes a second."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20.0

TEMPLATE = """
Parameters:
  RedisUrl: {Type: String}
  Key: {Type: String, NoEcho: true, MinLength: 32}
Globals: {Function: {Runtime: python3.13, Handler: app.handler, Layers: [!Ref Shared]}}
Resources:
  Shared: {Type: "AWS::Serverless::LayerVersion", Properties: {ContentUri: layer}}
  Api: {Type: "AWS::Serverless::HttpApi"}
  Live:
    Type: AWS::Serverless::WebSocketApi
    Properties: {StageName: live, Routes: {$default: {FunctionArn: !GetAtt WebFunction.Arn}}}
  WebFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: web
      Environment:
        Variables:
          REDIS_URL: !Ref RedisUrl
          KEY: !Ref Key
          OPTION: none
          HTTP_URL: !Sub https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}
      Events:
        All: {Type: HttpApi, Properties: {ApiId: !Ref Api}}
  TickFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: tick
      Environment: {Variables: {DATABASE_URL: not-used}}
      Events:
        Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 hour)}}
"""
WEB = """
import json, os
from shared import WORD
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"word": WORD, "code": 1, "env": dict(os.environ)})}
"""
TICK = """
import json, pathlib
def handler(event, context):
    print(json.dumps({"level": "INFO", "message": "ticked", "code": 1}))
    (pathlib.Path(__file__).parent / "events").open("a").write(json.dumps(event) + "\\n")
"""


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


class Project:
    """A folder with a template, and the runs of `python -m local` on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.processes: list[subprocess.Popen[str]] = []
        for name, code in {"web/app.py": WEB, "tick/app.py": TICK, "layer/shared.py": "WORD = 'old'\n"}.items():
            (folder / name).parent.mkdir()
            (folder / name).write_text(code, encoding="utf-8")
        (folder / "template.yaml").write_text(TEMPLATE, encoding="utf-8")

    def template(self) -> str:
        return (self.folder / "template.yaml").read_text(encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        template = ["--template", str(self.folder / "template.yaml"), "--state-dir", str(self.state)]
        ports = ["--http-port=0", "--websocket-port=0", "--lambda-port=0"]
        return [sys.executable, "-m", "local", *template, *ports, *arguments]

    def start(
        self, *arguments: str, env: dict[str, str] | None = None, postgres: bool = False
    ) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
        if not postgres:  # a second less: most of what is tried here needs no database
            clean["DATABASE_URL"] = "postgresql://127.0.0.1:1/none"
        with (self.folder / "output").open("a") as output:
            process = subprocess.Popen(
                self.command(*arguments), cwd=ROOT, env=clean | (env or {}), stdout=output, stderr=output, text=True
            )
        self.processes.append(process)
        return process

    def up(self, *arguments: str, env: dict[str, str] | None = None, postgres: bool = False) -> dict[str, Any]:
        process = self.start(*arguments, env=env, postgres=postgres)

        def announced() -> bool:
            assert process.poll() is None, self.output()
            return (self.state / "run.json").exists()

        until(announced)
        return dict(json.loads((self.state / "run.json").read_text()))

    def do(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def children(self) -> list[int]:
        """Return who still works in, or with, this folder: stores, functions, the runner itself."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + bytes((entry / "cwd").resolve(strict=True))
            except OSError:
                continue
            if os.fsencode(self.folder) in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - http
        return dict(json.load(response))
