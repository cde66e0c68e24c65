"""`cspipe up`, `down`, `status` and `worker` with all their real parts, in a small project folder."""

import contextlib
import json
import signal
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from cspipe.cli.main import app
from cspipe.runtime.errors import UserError
from flows.local import parts, processes, record, s3_server, workers
from flows.local.record import STACK
from flows.local.stack import SETTINGS
from tests.flows.local.stacks import CSPIPE, DEPLOYMENTS, PREFECT, kill, read, run, user
from tests.flows.server import end, free_port, wait_for, write_project
from tests.s3_server import S3


@pytest.mark.slow
def test_from_up_to_down(project: Path) -> None:
    """About a minute: everything starts, a bare name typed in another terminal runs, everything ends."""
    started = run(project, [CSPIPE, "up", "--detach", "--port", str(free_port())])
    assert started.returncode == 0, started.stdout + started.stderr
    up = read(project)
    for word in ("UI    http://127.0.0.1:", up.keys["auth"], "S3    s3://", "logs  ",
                 "uv run prefect deployment run train-demo"):  # fmt: skip
        assert word in started.stdout
    assert [part.name for part in up.parts] == ["keeper", "s3", "server", "cpu", "gpu-0", "supervisor"]
    modes = {name: stat.S_IMODE((project / name).stat().st_mode) for name in (SETTINGS, STACK, STACK / "keys.json")}
    assert modes == {SETTINGS: 0o600, STACK: 0o700, STACK / "keys.json": 0o600}
    for secret in (up.keys["access_key"], up.keys["secret_key"]):
        assert secret not in started.stdout + started.stderr + (project / STACK / "stack.json").read_text()
    for process in processes.find_marked(up.mark):  # anybody may read command lines
        assert not [secret for secret in up.keys.values() if secret in " ".join(process.cmdline())]

    ran = run(project, [PREFECT, "deployment", "run", "train-demo", "-p", "seconds=600"])  # no variable is set
    assert ran.returncode == 0, ran.stderr
    wait_for((project / "env.json").exists, 90)
    seen = json.loads((project / "env.json").read_text())
    assert seen["CSPIPE_S3"] == up.s3
    assert (seen["AWS_ENDPOINT_URL"], seen["CSPIPE_HOME"]) == (up.endpoint, str(project))
    assert seen["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"

    again = run(project, [CSPIPE, "up"])
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    assert again.stdout.startswith("already running: http://127.0.0.1:")
    well = run(project, [CSPIPE, "status"])
    assert well.returncode == 0, well.stdout
    assert "pool gpu     gpu-0-" in well.stdout

    kill(up, "cpu", "keeper")  # the worker's flow run is an orphan now, and nobody watches
    ill = run(project, [CSPIPE, "status"])
    assert ill.returncode == 1
    assert "FAIL cpu" in ill.stdout
    mended = run(project, [CSPIPE, "up", "--detach"])
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert not any(part.process for part in up.parts)
    up = read(project)
    assert up.ended() == []

    assert run(project, [CSPIPE, "down"]).returncode == 0
    assert processes.find_marked(up.mark) == []
    assert not any(part.process for part in up.parts)
    assert not (project / SETTINGS).exists()
    assert s3_server.sockets(project / STACK / "s3") == []
    assert "nothing to stop" in run(project, [CSPIPE, "down"]).stdout


@pytest.mark.slow
def test_what_dies_is_started_again_and_what_down_stopped_goes_on(project: Path) -> None:
    """Two minutes. Nobody types anything for the first; `status` tells each time what is the case."""
    assert run(project, [CSPIPE, "up", "--detach", "--port", str(free_port())]).returncode == 0
    before = read(project)
    kill(before, "keeper", number=signal.SIGSTOP)  # else it may have started them before `status` looks
    kill(before, "s3", "gpu-0", "supervisor", "server")
    ill = run(project, [CSPIPE, "status"])
    kill(before, "keeper", number=signal.SIGCONT)
    lines = [line for line in ill.stdout.splitlines() if "API" in line]
    assert ill.returncode == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"FAIL API          {before.api} gives no answer")
    wait_for(lambda: run(project, [CSPIPE, "status"]).returncode == 0, 120)
    after = read(project)
    assert (after.api, after.s3, after.endpoint) == (before.api, before.s3, before.endpoint)
    assert [part.name for part in after.parts] == [part.name for part in before.parts]
    log = (project / STACK / "logs" / "keeper.log").read_text()
    for name in ("s3", "gpu-0", "supervisor", "server"):
        assert f"{name} has ended; it is started again in 1 s" in log
        assert f"{name} started again" in log

    assert run(project, [PREFECT, "deployment", "run", "train-demo", "-p", "seconds=600"]).returncode == 0
    wait_for((project / "env.json").exists, 90)
    assert " Running" in run(project, [CSPIPE, "status"]).stdout.splitlines()[-1]
    assert run(project, [CSPIPE, "down"]).returncode == 0
    assert processes.find_marked(before.mark) == []
    (project / "env.json").unlink()
    assert run(project, [CSPIPE, "up", "--detach"]).returncode == 0
    wait_for((project / "env.json").exists, 60)  # at once, not when the supervisor finds it lost
    assert len((project / "ran.txt").read_text().splitlines()) == 2


@pytest.mark.slow
def test_ctrl_c_ends_what_up_started_and_nothing_else(project: Path, s3: S3) -> None:
    """Over a minute. A given bucket, another port as 4200 is taken, a prefect.toml of the user's, one worker more."""
    (project / SETTINGS).write_text("# mine\n")
    bucket = f"s3://{s3.new_bucket()}/mine"
    bystander = subprocess.Popen(["sleep", "600"], cwd=project)
    with socket.socket() as taken, (project / "up.log").open("wb") as log:
        with contextlib.suppress(OSError):  # if somebody else has it: as good
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", parts.PORT))
            taken.listen()
        command = [CSPIPE, "up", "--s3", bucket]
        process = subprocess.Popen(command, cwd=project, env=user(**s3.env), stdout=log, stderr=log)
        try:
            wait_for(lambda: "stop  Ctrl-C" in (project / "up.log").read_text() or process.poll() is not None, 240)
            assert process.poll() is None, (project / "up.log").read_text()
            up = read(project)
            server = {"PREFECT_API_URL": up.api, "PREFECT_API_AUTH_STRING": up.keys["auth"]}
            a_worker_of_another_clone(project.parent / "second", CSPIPE_S3=bucket, **server, **s3.env)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            end([process])
    text = (project / "up.log").read_text()
    assert f"port {parts.PORT} is taken by something else" in text
    assert f"export PREFECT_API_URL={up.api} PREFECT_API_AUTH_STRING={up.keys['auth']}" in text
    assert [part.name for part in up.parts] == ["keeper", "server", "cpu", "gpu-0", "supervisor"]
    stops = [line for line in text.splitlines() if line.startswith("stopping ")]
    assert [line.split()[1] for line in stops] == ["supervisor", "gpu-0", "cpu", "server"]
    assert processes.find_marked(up.mark) == []
    assert (project / SETTINGS).read_text() == "# mine\n"
    assert bystander.poll() is None
    bystander.kill()
    assert bystander.wait() == -signal.SIGKILL
    assert s3.client().list_buckets()["Buckets"]  # the store that was given still serves


def a_worker_of_another_clone(clone: Path, **variables: str) -> None:
    """`cspipe worker gpu` passes its checks, takes a run in its own clone and ends with SIGTERM, flow run and all."""
    write_project(clone, DEPLOYMENTS)
    for command in ("init -q -b main", "add -A", "-c user.name=t -c user.email=t@example.org commit -qm x",
                    "remote add origin ."):  # fmt: skip
        assert run(clone, ["git", *command.split()]).returncode == 0
    with (clone / "worker.log").open("wb") as log:
        process = subprocess.Popen([CSPIPE, "worker", "gpu"], cwd=clone, env=user(**variables), stdout=log, stderr=log)
    try:
        wait_for(lambda: "worker gpu-0-" in (clone / "worker.log").read_text() or process.poll() is not None, 60)
        assert process.poll() is None, (clone / "worker.log").read_text()
        command = [PREFECT, "deployment", "run", "run-stage-gpu", "-p", "seconds=600"]
        for _ in range(2):  # one run for each of the pool's two workers
            assert run(clone, command, **variables).returncode == 0
        wait_for((clone / "env.json").exists, 90)
        assert json.loads((clone / "env.json").read_text())["CSPIPE_HOME"] == str(clone)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not processes.running(family)  # a zombie, which init has yet to reap, does not run
    finally:
        end([process])


@pytest.mark.slow
def test_a_part_that_dies_takes_the_rest_with_it(project: Path) -> None:
    database = project / STACK / "prefect" / "prefect.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database" * 100)
    done = run(project, [CSPIPE, "up", "--detach", "--port", str(free_port())])
    assert done.returncode == 1
    assert "file is not a database" in done.stderr  # the last lines of its log
    assert done.stderr.startswith("cspipe: server has ended while starting")
    assert record.read(project) is None
    assert not [process for process in psutil.process_iter() if str(project) in " ".join(_command(process))]


def test_a_missing_bucket_is_said_before_anything_starts(project: Path, s3: S3) -> None:
    done = run(project, [CSPIPE, "up", "--s3", "s3://no-such-bucket/x"], **s3.env)
    assert done.returncode == 1
    assert "no-such-bucket" in done.stderr
    assert record.read(project) is None


def test_the_status_is_of_another_machines_server_where_no_stack_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    url = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        done = CliRunner().invoke(app, ["status"])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (1, f"FAIL API          {url} gives no answer")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "no stack runs in this folder" in CliRunner().invoke(app, ["status"]).stdout


def test_a_worker_says_everything_that_is_missing_and_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSPIPE_S3", raising=False)
    url = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(UserError) as caught:
        workers.worker("gpu")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no worker started; 4 check(s) failed"
    assert lines[1].startswith(f"Prefect: the server at {url} gives no answer (")
    assert lines[2].startswith("S3: CSPIPE_S3 is not set")
    assert lines[3].startswith(f"git: origin of {tmp_path} cannot be read (")
    assert lines[4].startswith(f"clone: {tmp_path} holds no prefect.yaml")


def _command(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), process.cwd()]
    except psutil.Error:
        return []
