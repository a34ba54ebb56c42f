"""`python -m local` from start to stop: covers run, ports, companions, warm_up and listeners."""

import json
import re
import signal
import socket
import sys
import time

import psycopg
import pytest
from redis import ConnectionError, Redis  # noqa: A004 - as redis names it

from local.host.state_dir import StateDir
from tests.integration.local.project import DEADLINE_S, TEMPLATE, TICK, WEB, get, until

KEYS = {"aws_access_key_id", "aws_secret_access_key", "aws_region"}


def test_one_command_serves_everything_and_run_json_says_where(project):
    run = project.up(env={"OPTION": "Tea", "NOT_DECLARED": "x"}, postgres=True)
    assert run.keys() == {"http", "websocket", "lambda", "redis", "postgres", "pid"} | KEYS
    assert run["websocket"].endswith("/live")
    assert (project.state / "run.json").stat().st_mode & 0o777 == 0o600
    variables = get(run["http"])["env"]
    assert variables["REDIS_URL"] == run["redis"]
    assert variables["HTTP_URL"] == run["http"]
    assert variables["OPTION"] == "Tea"
    assert len(variables["KEY"]) >= 32
    assert "NOT_DECLARED" not in variables
    with Redis.from_url(run["redis"]) as redis:
        assert redis.ping()
    with psycopg.connect(run["postgres"]) as database:
        assert database.execute("SELECT 1").fetchone() == (1,)


def test_a_schedule_fires_at_the_start_with_the_schedulers_event(project):
    project.up()
    events = project.folder / "tick" / "events"
    until(events.exists)
    event = json.loads(until(events.read_text))
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.scheduler", "Scheduled Event", "{}")
    assert event["resources"][0].endswith(":schedule/default/TickFunctionTick")
    until(lambda: re.search(r"^\d\d:\d\d:\d\d\.\d{3}  Tick +INFO   ticked  code=1$", project.output(), re.MULTILINE))


def test_changed_code_takes_over_without_a_restart(project):
    run = project.up()
    assert get(run["http"])["code"] == 1
    until((project.folder / "tick" / "events").exists)
    (project.folder / "web" / "app.py").write_text(WEB.replace('"code": 1', '"code": 2'), encoding="utf-8")
    until(lambda: get(run["http"])["code"] == 2)
    (project.folder / "layer" / "shared.py").write_text("WORD = 'a new one'\n", encoding="utf-8")
    until(lambda: get(run["http"])["word"] == "a new one")
    (project.folder / "tick" / "app.py").write_text(TICK.replace("1}", "2}"), encoding="utf-8")
    until(lambda: "ticked  code=2" in project.output())
    (project.folder / "template.yaml").write_text(TEMPLATE + "\n", encoding="utf-8")
    until(lambda: "template.yaml changed: restart" in project.output())


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_ends_it_cleanly(project, number, times):
    project.up("--also", f"beside={sys.executable} -c 'import time; time.sleep(99)' {project.folder}", postgres=True)
    assert len(project.children()) >= 5
    began = time.monotonic()
    for _ in range(times):
        project.processes[0].send_signal(number)
    assert project.processes[0].wait(DEADLINE_S) == 0
    assert time.monotonic() - began < 15  # a second or two; other work on the machine must not fail it
    assert not (project.state / "run.json").exists()
    assert project.children() == []


def test_a_signal_while_it_starts_leaves_nothing_behind(project):
    process = project.start(postgres=True)
    until(lambda: "Starting" in project.output())
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert project.children() == []


def test_a_killed_run_leaves_no_process_and_the_next_one_starts_within_seconds(project):
    first = project.up(postgres=True)
    project.processes[0].kill()
    project.processes[0].wait()
    began = time.monotonic()
    (project.state / "run.json").unlink()
    second = project.up(postgres=True)
    assert time.monotonic() - began < 15  # a second or two; other work on the machine must not fail it
    assert (second["redis"], second["postgres"]) == (first["redis"], first["postgres"])
    project.do("--down")
    until(lambda: not project.children())


def test_a_second_start_is_refused_with_the_addresses_of_the_first(project):
    run = project.up()
    second = project.do()
    assert second.returncode == 1
    assert str(run["pid"]) in second.stderr
    assert run["http"] in second.stderr


def test_down_waits_for_the_end_and_reset_forgets(project):
    assert project.do("--down").returncode == 0
    assert project.do("--reset").returncode == 0
    project.up()
    down = project.do("--down")
    assert (down.returncode, down.stdout) == (0, f"Stopped what was running in {project.state}.\n")
    assert project.children() == []
    assert project.state.exists()
    (project.state / "run.json").unlink(missing_ok=True)
    project.up()
    reset = project.do("--reset")
    assert reset.returncode == 0
    assert (
        reset.stdout == f"Stopped what was running in {project.state}. Deleted its votes, passwords and cookie keys.\n"
    )
    assert project.children() == []
    assert not project.state.exists()


def test_reset_refuses_a_folder_that_is_not_ours(project):
    project.state.mkdir()
    (project.state / "thesis.txt").touch()
    refused = project.do("--reset")
    assert (refused.returncode, "left alone" in refused.stderr) == (1, True)
    assert (project.state / "thesis.txt").exists()


@pytest.mark.parametrize("name", ["http", "websocket", "lambda"])
def test_a_taken_port_is_named_with_its_flag(project, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = project.do(f"--{name}-port={port}")
    assert refused.returncode == 1
    assert f"port {port} is taken" in refused.stderr
    assert f"--{name}-port" in refused.stderr
    assert project.children() == []


def test_a_broken_template_is_one_clear_line(project):
    (project.folder / "template.yaml").write_text(TEMPLATE.replace("CodeUri: web", "CodeUri: gone"), encoding="utf-8")
    refused = project.do()
    assert refused.returncode == 1
    assert re.fullmatch(r"local: .*WebFunction\.CodeUri: no folder .*gone\n", refused.stderr)


def test_half_written_ports_are_one_clear_line(project):
    state = StateDir(project.state)
    state.open()
    state.close()
    (project.state / "ports.json").write_text('{"redis": ', encoding="utf-8")
    refused = project.do()
    assert refused.returncode == 1
    assert re.fullmatch(r"local: .*ports\.json is incomplete; --reset .*\n", refused.stderr)
    assert project.do("--reset").returncode == 0


def test_a_store_is_stopped_and_started_by_hand(project):
    run = project.up()
    assert project.do("--stop-store", "redis").returncode == 0
    with Redis.from_url(run["redis"]) as redis, pytest.raises(ConnectionError):
        redis.connection_pool.make_connection().connect()
    assert project.do("--start-store", "redis").returncode == 0
    with Redis.from_url(run["redis"]) as redis:
        assert redis.ping()


def test_a_store_of_ones_own_replaces_the_embedded_one(project):
    run = project.up(env={"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert run["redis"] == get(run["http"])["env"]["REDIS_URL"] == "redis://127.0.0.1:1/0"
    assert not (project.state / "valkey").exists()
    refused = project.do("--stop-store", "redis")
    assert (refused.returncode, "not embedded" in refused.stderr) == (1, True)


def test_a_companion_finds_the_addresses_and_is_logged(project):
    code = "import os, json; print(json.load(open(os.environ['LOCAL_RUN_JSON']))['http'], flush=True)"
    run = project.up("--also", f'beside={sys.executable} -c "{code}"')
    until(lambda: re.search(rf"beside +{re.escape(run['http'])}\n", project.output()))


def test_broken_code_waits_for_its_repair_and_says_so(project):
    (project.folder / "web" / "app.py").write_text("import no_such_module\n", encoding="utf-8")
    project.start()
    until(lambda: "no_such_module" in project.output() and "Waiting for a change" in project.output())
    assert not (project.state / "run.json").exists()
    (project.folder / "web" / "app.py").write_text(WEB, encoding="utf-8")
    until((project.state / "run.json").exists)
