"""Many clients at once on the built-in model, with the real worker, which is killed in the middle; what was measured
stands in docs/app.md."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import uvicorn
from app_harness import REFERENCE, settings, wait

from champ_jax.app import server
from champ_jax.app.request import AnimationRequest
from champ_jax.app.service import Service
from champ_jax.common.children import environment
from champ_jax.common.videos import read_video

CLIENTS, FRAMES = 20, 4
_MIB = 2**20
# What one client does, in a process of its own: a picture is sent, a job made, watched and fetched.
CLIENT = """
import hashlib, json, sys, urllib.request
api, who, seed, frames, picture = sys.argv[1:]
def ask(path, data=None):
    request = urllib.request.Request(api + path, data, {"X-Champ-Client": "client-of-the-load-test-" + who})
    with urllib.request.urlopen(request, timeout=1500) as answer:
        return answer.read()
upload = json.loads(ask("/uploads?name=person.png", open(picture, "rb").read()))["id"]
request = {"reference": upload, "motion": "wave", "frames": int(frames), "seed": int(seed), "key": "only"}
jobs = [json.loads(ask("/jobs", json.dumps(request).encode()))["id"] for _ in range(2)]
assert jobs[0] == jobs[1] and len(json.loads(ask("/jobs"))["jobs"]) == 1
ask("/jobs/" + jobs[0] + "/events")
job = json.loads(ask("/jobs/" + jobs[0]))
assert job["state"] == "done", job
frames = ask("/jobs/" + job["id"] + "/results/frames")
print(json.dumps([job["request"]["seed"], hashlib.sha256(frames).hexdigest()]))
"""


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_twenty_clients_and_a_killed_worker(tmp_path, capsys):
    """None is lost, none mixed up, and memory stays as it was after the first jobs."""
    with (
        server.listen(settings(tmp_path, port=0)) as listener,
        Service(settings(tmp_path, job_timeout=1500), environment=environment()) as service,
    ):
        running = uvicorn.Server(uvicorn.Config(server.make_app(service, service.settings), log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        api = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        start = time.monotonic()

        def one(seed: int, who: str | None = None) -> list:
            command = [sys.executable, "-c", CLIENT, api, who or str(seed), str(seed), str(FRAMES), str(REFERENCE)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        # The first job compiles; of the memory after it, the others must not need much more.
        first = one(0, "first")
        compiled = time.monotonic() - start
        before = {"worker": resident(service.worker_id), "server": resident(os.getpid())}
        with ThreadPoolExecutor(CLIENTS) as pool:
            begun = time.monotonic()
            answers = list(pool.map(one, range(CLIENTS)))
        seconds = time.monotonic() - begun
        after = {"worker": resident(service.worker_id), "server": resident(os.getpid())}
        assert [seed for seed, _ in answers] == [*range(CLIENTS)]  # everybody's own
        assert answers[0] == first  # the same seed gives the same frames, byte for byte
        assert len({digest for _, digest in answers}) == CLIENTS  # and no other seed does
        grown = {name: (after[name] - before[name]) / _MIB for name in after}
        assert max(grown.values()) < 200, grown

        # A worker that is killed in the middle: its job is made by the next one, and is the same.
        worker = service.worker_id
        id = service.submit("killed", AnimationRequest(motion="wave", frames=FRAMES, seed=7))
        while wait(service, "killed", id, "running", seconds=60).stage is None:
            time.sleep(0.005)
        os.kill(worker, signal.SIGKILL)
        status = wait(service, "killed", id, seconds=1500)
        assert (status.state, status.attempts) == ("done", 2)
        assert service.worker_id != worker
        files = service.result("killed", id)
        with zipfile.ZipFile(files["frames"]) as archive:
            assert len(archive.namelist()) == FRAMES
        running.should_exit = True
        thread.join()
        with capsys.disabled():
            print(
                f"\nfirst job {compiled:.0f} s; {CLIENTS} clients at once {seconds:.0f} s; memory after the first job: "
                + ", ".join(f"{name} {before[name] / _MIB:.0f} MiB, then {grown[name]:+.0f}" for name in after)
            )
        # What is downloaded makes the same video again, on any machine.
        folder = files["video"].parent
        video = np.stack(list(read_video(files["video"])))
        os.remove(files["video"])
        command = [sys.executable, "-m", "champ_jax.animate", "--config=animation.json", "--config.quiet"]
        subprocess.run(command, cwd=folder, env=environment(), check=True, timeout=1500)
        np.testing.assert_array_equal(np.stack(list(read_video(files["video"]))), video)
