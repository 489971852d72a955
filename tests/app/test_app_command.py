"""The command: its settings, its ends; and the clients of docs/app.md, run as they stand there."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from app_harness import REFERENCE, service, settings

from champ_jax.app import server
from champ_jax.app.__main__ import parser
from champ_jax.app.settings import GROUPS, RULES, AppSettings, get_config, guide
from champ_jax.common.children import environment, python
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import numbers_without_rule

PAGE = (Path(__file__).parents[2] / "docs" / "app.md").read_text()


def read(**changes) -> AppSettings:
    config = get_config()
    for name, value in changes.items():
        config[name] = value
    return AppSettings.from_config(config)


def test_every_field_has_its_range_help_and_group():
    fields = list(get_config())
    assert sorted(sum(GROUPS.values(), ())) == sorted(fields)
    assert numbers_without_rule(get_config(), RULES) == []
    assert set(guide().meanings) == set(fields)
    assert read() == AppSettings(workspace=Path("results/app").absolute())
    assert "Who may use it" in parser().format_help()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"host": "::"}, "host"),
        ({"host": "animate.example.org"}, "host"),
        ({"host": "0.0.0.0", "token": "short"}, "token"),
        ({"token": "with a space in it"}, "token"),
        ({"user": "ann"}, "password"),
        ({"password": "long-enough-password"}, "user"),
        ({"user": "a:b", "password": "long-enough-password"}, "user"),
        ({"names": "http://x"}, "names"),
        ({"port": 65536}, "port"),
        ({"max_upload_mib": 0}, "max_upload_mib"),
        ({"workspace": "/"}, "workspace"),
    ],
)
def test_settings_that_are_refused(changes, field):
    with pytest.raises(InputError, match=f"--config.{field}"):
        read(**changes)


def test_a_protected_server_may_be_reached_by_others(monkeypatch):
    assert read(host="0.0.0.0", token="long-enough-token").protected
    assert read(host="0.0.0.0", user="ann", password="long-enough-password").protected
    monkeypatch.setenv("CHAMP_APP_TOKEN", "token-of-the-environment")
    assert read(host="0.0.0.0").token == "token-of-the-environment"
    assert read(names="A.example, b.example").names == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_the_address_that_is_shown(tmp_path, host, shown):
    assert server.address(settings(tmp_path, host=host), 80) == f"http://{shown}:80/"


def test_a_port_in_use_and_a_host_of_another_machine(tmp_path):
    with server.listen(settings(tmp_path, port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--config.port={port}: cannot be listened on .*choose another port"):
            server.listen(settings(tmp_path, port=port))
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(InputError, match=r"--config\.(host|port)="):
            server.listen(settings(tmp_path, host=host, port=0))


def test_weights_that_are_not_there_are_told_before_it_listens(tmp_path):
    with pytest.raises(InputError, match="nothing-here"):
        server.serve(settings(tmp_path, weights=str(tmp_path / "nothing-here"), port=0))
    assert not (tmp_path / "workspace").exists()


def test_it_starts_says_where_and_ends_cleanly(tmp_path):
    """One process, as a user starts it: the line, a second one on its port, and Ctrl-C while a client watches."""
    command = [*python("champ_jax.app"), f"--config.workspace={tmp_path / 'w'}", "--config.port=0"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        line = process.stdout.readline()
        port = int(re.fullmatch(r"Champ is at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", line)[1])
        end = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as client:
                    client.sendall(b"GET /api/v1/about HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    assert client.recv(100).startswith(b"HTTP/1.1 200")
                    break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert not (tmp_path / "w" / "temporary").exists()


# What docs/app.md shows


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with the stand-in for the worker, on a socket."""
    folder = tmp_path_factory.mktemp("docs")
    with server.listen(settings(folder, port=0)) as listener, service(folder) as opened:
        running = uvicorn.Server(
            uvicorn.Config(server.make_app(opened, opened.settings), log_level="warning", ws="none")
        )
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def _block(kind: str, address: str) -> str:
    (block,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert "127.0.0.1:7860" in block
    return block.replace("127.0.0.1:7860", address)


@pytest.mark.parametrize("kind", ["python", "sh"])
def test_the_clients_of_the_page_work_as_they_stand(address, tmp_path, kind):
    block = _block(kind, address)
    if kind == "python":
        assert len([line for line in block.splitlines() if line.strip()]) <= 30
        command = [sys.executable, "-I", "-c", block]
    elif shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    else:
        command = ["bash", "-euo", "pipefail", "-c", block]
    shutil.copy(REFERENCE, tmp_path / "person.png")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env={"PATH": path})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "animation.mp4").read_text().startswith('["animation.mp4", 42,')
