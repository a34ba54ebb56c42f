"""Invocations by real processes: covers service, pool, environment, bootstrap, invocation and processes."""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.awslambda import environment, pool
from local.awslambda.environment import Sandbox
from local.awslambda.invocation import PayloadTooLarge, Throttled, UnknownFunction
from local.awslambda.service import LambdaService
from local.template.account import Account
from local.template.resources import Function

DEADLINE_S = 15.0

HANDLER = """
import os, pathlib, sys, time
HERE = pathlib.Path(__file__).parent
(HERE / "inits").open("a").write("i")
def handler(event, context):
    if "print" in event:
        print(event["print"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "exit" in event:
        os._exit(event["exit"])
    if "big" in event:
        return "x" * event["big"]
    if "fail" in event:
        with (HERE / "attempts").open("a") as file:
            file.write(f"{context.aws_request_id} {time.monotonic()}\\n")
        if len((HERE / "attempts").read_text().splitlines()) <= event["fail"]:
            raise ValueError("not yet")
    if "started" in event:
        (HERE / event["started"]).touch()
    while "until" in event and not (HERE / event["until"]).exists():
        time.sleep(0.01)
    time.sleep(event.get("sleep", 0))
    return {
        "pid": os.getpid(), "code": 1, "environment": dict(os.environ), "cwd": os.getcwd(),
        "left_ms": context.get_remaining_time_in_millis(), "id": context.aws_request_id,
        "arn": context.invoked_function_arn, "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }
"""


@pytest.fixture
def function(tmp_path: Path) -> Function:
    (tmp_path / "app.py").write_text(HANDLER, encoding="utf-8")
    return Function(
        name="F",
        code=tmp_path,
        handler="app.handler",
        timeout_s=10,
        memory_mb=256,
        environment={"DECLARED": "yes"},
        layers=(),
        reserved_concurrency=None,
        retries=2,
        event_age_s=60,
    )


class Lambda:
    """A service with one function, and what its processes printed."""

    def __init__(self, function: Function, lines: list[str], environments: int) -> None:
        output: Callable[[str, bytes], None] = lambda _name, line: lines.append(line.decode())  # noqa: E731
        sandbox = Sandbox(Account(region="eu-west-9"), lambda_url="http://127.0.0.1:9", output=output)
        self.service = LambdaService({"F": function}, sandbox, environments=environments)
        self.lines = lines
        self.folder = function.code

    async def ask(self, event: dict[str, Any]) -> Any:
        answer = await self.service.invoke("F", json.dumps(event).encode())
        assert answer.error is None, answer
        return json.loads(answer.payload)

    async def fail(self, event: dict[str, Any]) -> dict[str, Any]:
        answer = await self.service.invoke("F", json.dumps(event).encode())
        assert answer.error == "Unhandled"
        return dict(json.loads(answer.payload))


def run(function: Function, work: Callable[[Lambda], Coroutine[Any, Any, None]], environments: int = 3) -> list[str]:
    async def main() -> list[str]:
        aws = Lambda(function, [], environments)
        try:
            await work(aws)
        finally:
            await aws.service.close()
        return aws.lines

    return asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - files and lines set no event
            await asyncio.sleep(0.01)


def test_a_handler_finds_what_lambda_gives_it(function, monkeypatch):
    monkeypatch.setenv("DEVELOPERS_SECRET", "x")
    monkeypatch.setenv("AWS_PROFILE", "production")

    async def work(aws: Lambda) -> None:
        answer = await aws.ask({})
        variables = answer["environment"]
        assert variables["DECLARED"] == "yes"
        assert variables["AWS_REGION"] == "eu-west-9"
        assert variables["AWS_LAMBDA_FUNCTION_NAME"] == "F"
        assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
        assert variables["LAMBDA_TASK_ROOT"] == answer["cwd"] == str(function.code)
        assert variables["AWS_ENDPOINT_URL_LAMBDA"] == "http://127.0.0.1:9"
        assert not {"DEVELOPERS_SECRET", "AWS_PROFILE"} & variables.keys()
        assert answer["arn"] == "arn:aws:lambda:eu-west-9:123456789012:function:F"
        assert 5000 < answer["left_ms"] <= 10_000
        assert answer["trace"].startswith("Root=1-")

    run(function, work)


def test_an_environment_serves_one_request_after_the_other(function):
    async def work(aws: Lambda) -> None:
        pids = {(await aws.ask({}))["pid"] for _ in range(20)}
        assert len(pids) == 1

    run(function, work)


def test_a_short_burst_does_not_start_many_processes(function):
    async def work(aws: Lambda) -> None:
        await aws.ask({})
        pids = {answer["pid"] for answer in await asyncio.gather(*(aws.ask({}) for _ in range(20)))}
        assert len(pids) <= 2

    run(function, work)


def test_long_requests_run_side_by_side_up_to_the_limit_and_the_rest_waits(function):
    async def work(aws: Lambda) -> None:
        asked = [asyncio.create_task(aws.ask({"until": "go", "started": f"s{number}"})) for number in range(4)]
        await until(lambda: len(list(aws.folder.glob("s?"))) == 3)
        (aws.folder / "go").touch()
        answers = await asyncio.gather(*asked)
        assert len({answer["pid"] for answer in answers}) == 3

    run(function, work)


def test_reserved_concurrency_throttles_at_once(function):
    async def work(aws: Lambda) -> None:
        first = asyncio.create_task(aws.ask({"until": "go", "started": "s"}))
        await until((aws.folder / "s").exists)
        with pytest.raises(Throttled):
            await aws.ask({})
        (aws.folder / "go").touch()
        await first
        await aws.ask({})

    run(replace(function, reserved_concurrency=1), work)


def test_a_request_that_waits_longer_than_the_timeout_is_throttled(function):
    async def work(aws: Lambda) -> None:
        await aws.ask({})
        with pytest.raises(Throttled):
            await asyncio.gather(*(aws.ask({"sleep": 0.9}) for _ in range(3)))

    run(replace(function, timeout_s=1), work, environments=1)


def test_a_request_over_its_time_is_killed_and_the_next_one_served(function):
    async def work(aws: Lambda) -> None:
        pid = (await aws.ask({}))["pid"]
        began = time.monotonic()
        failure = await aws.fail({"until": "never"})
        assert time.monotonic() - began < 8
        assert failure["errorType"] == "Sandbox.Timedout"
        assert failure["errorMessage"].endswith(" Error: Task timed out after 1.00 seconds")
        assert (await aws.ask({}))["pid"] != pid

    lines = run(replace(function, timeout_s=1), work)
    assert any("Task timed out" in line for line in lines)


def test_an_exception_is_answered_and_the_environment_stays(function):
    async def work(aws: Lambda) -> None:
        pid = (await aws.ask({}))["pid"]
        failure = await aws.fail({"raise": "no"})
        assert (failure["errorType"], failure["errorMessage"]) == ("ValueError", "no")
        assert (await aws.ask({}))["pid"] == pid

    run(function, work)


@pytest.mark.parametrize(("status", "words"), [(3, "exit status 3"), (0, "exited without providing a reason")])
def test_a_process_that_ends_is_an_exit_error_and_is_replaced(function, status, words):
    async def work(aws: Lambda) -> None:
        failure = await aws.fail({"exit": status})
        assert failure["errorType"] == "Runtime.ExitError"
        assert words in failure["errorMessage"]
        await aws.ask({})

    run(function, work)


def test_an_init_error_answers_all_who_wait_with_one_start(function):
    (function.code / "app.py").write_text(HANDLER + "\nimport no_such_module\n", encoding="utf-8")

    async def work(aws: Lambda) -> None:
        failures = await asyncio.gather(*(aws.fail({}) for _ in range(10)))
        assert {failure["errorType"] for failure in failures} == {"Runtime.ImportModuleError"}
        assert all("no_such_module" in failure["errorMessage"] for failure in failures)
        assert (aws.folder / "inits").read_text() == "i"
        answer = await aws.service.warm("F")
        assert answer is not None

    run(function, work)


def test_an_init_that_ends_the_process_is_an_exit_error(function):
    (function.code / "app.py").write_text("import os\nos._exit(7)\n", encoding="utf-8")

    async def work(aws: Lambda) -> None:
        failure = await aws.fail({})
        assert failure["errorType"] == "Runtime.ExitError"
        assert "exit status 7" in failure["errorMessage"]

    run(function, work)


DIES = """
import os, pathlib, signal
inits = pathlib.Path(__file__).parent / "inits"
if len(inits.read_text()) <= {times}:
    {dies}
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "dies", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGSEGV)", "os._exit(1)"]
)
def test_who_waits_for_an_init_that_dies_is_served_by_the_next_start(function, times, dies):
    (function.code / "app.py").write_text(HANDLER + DIES.format(times=times, dies=dies), encoding="utf-8")

    async def work(aws: Lambda) -> None:
        answers = await asyncio.gather(*(aws.ask({}) for _ in range(10)))
        assert all("pid" in answer for answer in answers)

    run(function, work, environments=1)
    assert (function.code / "inits").read_text() == "i" * (times + 1)


def test_an_environment_that_is_killed_while_it_starts_fails_no_request(function):
    (function.code / "app.py").write_text(
        HANDLER.replace('.write("i")', '.write(f"{os.getpid()}\\n")')
        + "while len((HERE / 'inits').read_text().splitlines()) == 1: time.sleep(0.01)\n",
        encoding="utf-8",
    )

    async def work(aws: Lambda) -> None:
        waiting = [asyncio.create_task(aws.ask({})) for _ in range(5)]
        inits = function.code / "inits"
        await until(lambda: inits.exists() and inits.read_text().endswith("\n"))
        os.kill(int(inits.read_text()), signal.SIGKILL)
        assert all("pid" in answer for answer in await asyncio.gather(*waiting))

    run(function, work, environments=1)


def test_an_init_that_dies_every_time_is_an_exit_error_after_three_starts(function):
    (function.code / "app.py").write_text(HANDLER + DIES.format(times=99, dies="os._exit(1)"), encoding="utf-8")

    async def work(aws: Lambda) -> None:
        for starts in (3, 6):  # the next invocation has its tries again
            failures = await asyncio.gather(*(aws.fail({}) for _ in range(5)))
            assert {failure["errorType"] for failure in failures} == {"Runtime.ExitError"}
            assert (aws.folder / "inits").read_text() == "i" * starts

    run(function, work, environments=1)


def test_an_init_over_its_time_is_answered(function, monkeypatch):
    monkeypatch.setattr(environment, "INIT_TIMEOUT_S", 0.5)
    (function.code / "app.py").write_text("import time\nwhile True: time.sleep(1)\n", encoding="utf-8")

    async def work(aws: Lambda) -> None:
        assert (await aws.fail({}))["errorType"] == "Sandbox.Timedout"

    run(function, work)


def test_a_response_over_six_megabytes_is_an_error(function):
    async def work(aws: Lambda) -> None:
        assert len(await aws.ask({"big": 6_291_000})) == 6_291_000
        failure = await aws.fail({"big": 6_300_000})
        assert failure["errorType"] == "Function.ResponseSizeTooLarge"
        await aws.ask({})

    run(function, work)


def test_payloads_over_the_limits_are_refused(function):
    async def work(aws: Lambda) -> None:
        with pytest.raises(PayloadTooLarge):
            await aws.service.invoke("F", b" " * (6 * 1024 * 1024 + 1))
        with pytest.raises(PayloadTooLarge):
            aws.service.enqueue("F", b" " * (1024 * 1024 + 1))
        with pytest.raises(UnknownFunction):
            await aws.service.invoke("G", b"{}")
        with pytest.raises(UnknownFunction):
            aws.service.enqueue("G", b"{}")

    run(function, work)


def test_a_failed_event_is_tried_again_under_its_id(function):
    async def work(aws: Lambda) -> None:
        request_id = aws.service.enqueue("F", b'{"fail": 1}')
        attempts = aws.folder / "attempts"
        await until(lambda: attempts.exists() and attempts.read_text().count("\n") == 2)
        lines = [line.split() for line in attempts.read_text().splitlines()]
        assert {line[0] for line in lines} == {request_id}
        assert float(lines[1][1]) - float(lines[0][1]) >= 1

    run(function, work)


def test_an_event_that_goes_on_failing_is_given_up_and_that_is_logged(function, caplog):
    async def work(aws: Lambda) -> None:
        with caplog.at_level(logging.ERROR, logger="local.lambda"):
            request_id = aws.service.enqueue("F", b'{"fail": 9}')
            await until(lambda: any(request_id in record.getMessage() for record in caplog.records))
        assert (aws.folder / "attempts").read_text().count("\n") == 1

    run(replace(function, retries=0), work)


def test_an_event_is_dropped_when_it_is_too_old_for_another_attempt(function, caplog):
    async def work(aws: Lambda) -> None:
        with caplog.at_level(logging.ERROR, logger="local.lambda"):
            aws.service.enqueue("F", b'{"fail": 9}')
            await until(lambda: any("older than" in record.getMessage() for record in caplog.records))
        assert (aws.folder / "attempts").read_text().count("\n") == 1

    run(replace(function, event_age_s=0.5), work)


def test_new_code_takes_over_at_once_where_idle_and_after_the_answer_where_busy(function):
    async def work(aws: Lambda) -> None:
        idle, _ = await asyncio.gather(aws.ask({"sleep": 0.3}), aws.ask({"sleep": 0.3}))
        busy = asyncio.create_task(aws.ask({"until": "go", "started": "s"}))
        await until((aws.folder / "s").exists)
        written = (aws.folder / "app.py").stat()
        (aws.folder / "app.py").write_text(HANDLER.replace('"code": 1', '"code": 2'), encoding="utf-8")
        os.utime(aws.folder / "app.py", ns=(written.st_atime_ns, written.st_mtime_ns))  # as within one second
        await aws.service.replace("F")
        assert (await aws.ask({}))["code"] == 2
        (aws.folder / "go").touch()
        assert (await busy)["code"] == 1
        assert (await aws.ask({}))["code"] == 2
        assert idle["code"] == 1

    run(function, work)


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_short_waits_bring_a_few_environments_and_long_ones_bring_more(function, monkeypatch):
    monkeypatch.setattr(pool, "FEW", 2)
    monkeypatch.setattr(pool, "GROW_BEYOND_AFTER_S", 3600.0)

    async def work(aws: Lambda) -> None:
        asked = [asyncio.create_task(aws.ask({"sleep": 0.2})) for _ in range(8)]
        assert len({answer["pid"] for answer in await asyncio.gather(*asked)}) == 2
        monkeypatch.setattr(pool, "GROW_BEYOND_AFTER_S", 0.2)
        asked = [asyncio.create_task(aws.ask({"until": "go", "started": f"s{number}"})) for number in range(3)]
        await until((aws.folder / "s2").exists)
        (aws.folder / "go").touch()
        assert len({answer["pid"] for answer in await asyncio.gather(*asked)}) == 3

    run(function, work)


def test_environments_that_are_idle_for_long_are_reaped_but_for_one(function, monkeypatch):
    async def work(aws: Lambda) -> None:
        asked = [asyncio.create_task(aws.ask({"until": "go", "started": f"s{number}"})) for number in range(2)]
        await until(lambda: len(list(aws.folder.glob("s?"))) == 2)
        (aws.folder / "go").touch()
        pids = {answer["pid"] for answer in await asyncio.gather(*asked)}
        await until(lambda: len(aws.service._pools["F"]._idle) == 2)
        monkeypatch.setattr(pool, "REAP_AFTER_S", -1.0)
        await aws.service.reap()
        assert len(alive(pids)) == 1
        assert (await aws.ask({}))["pid"] in pids

    run(function, work)


def test_a_caller_who_leaves_takes_no_environment_along(function):
    async def work(aws: Lambda) -> None:
        pid = (await aws.ask({}))["pid"]
        first = asyncio.create_task(aws.ask({"until": "go", "started": "s"}))
        await until((aws.folder / "s").exists)
        waiting = asyncio.create_task(aws.ask({}))
        await asyncio.sleep(0)
        first.cancel()
        waiting.cancel()
        await asyncio.gather(first, waiting, return_exceptions=True)
        (aws.folder / "go").touch()
        assert (await aws.ask({}))["pid"] == pid

    run(function, work, environments=1)


def test_what_a_function_prints_is_handed_over_line_by_line(function):
    async def work(aws: Lambda) -> None:
        await aws.ask({"print": "one\ntwo"})
        await until(lambda: "two" in aws.lines)
        await aws.ask({"print": "y" * 300_000})

    lines = run(function, work)
    assert {"one", "two"} <= set(lines)
    assert sum(line.count("y") for line in lines if set(line) == {"y"}) == 300_000
