"""Uploads and jobs of several users over a stand-in for the worker: queue, cancel, deaths, restarts, limits."""

import io
import os
import sqlite3
import stat
import sys
import time

import pytest
from app_harness import (
    DIES,
    DIES_ONCE,
    FAILS,
    IGNORES_CANCEL,
    REFERENCE,
    STAND_IN,
    WAITS,
    service,
    settings,
    wait,
)

from champ_jax.app import dispatcher
from champ_jax.app.request import AnimationRequest, FieldError, MotionEdits
from champ_jax.app.service import Conflict, NotFound, QueueFull, Service
from champ_jax.app.uploads import UploadTooLarge
from champ_jax.common.errors import InputError


def request(seed: int = 5, **fields) -> AnimationRequest:
    return AnimationRequest(seed=seed, **fields)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with service(tmp_path_factory.mktemp("shared")) as opened:
        yield opened


def send(opened: Service, owner: str, name: str = "person.png"):
    with REFERENCE.open("rb") as file:
        return opened.upload(owner, name, file)


def test_a_job_goes_from_the_queue_to_its_results(shared):
    id = shared.submit("alice", request())
    status = wait(shared, "alice", id)
    assert (status.state, status.attempts, status.notes, status.seconds_left) == ("done", 1, ("a note",), 0.0)
    files = shared.result("alice", id)
    assert set(files) == {"video", "comparison", "frames", "record"}  # the stand-in gives no picture and no motion
    assert files["video"].read_text().startswith('["animation.mp4", 5,')
    numbers = [event.number for event in shared.events("alice", id)]
    assert numbers == [*range(1, len(numbers) + 1)]
    states = [event.status.state for event in shared.events("alice", id)]
    assert states[0] == "queued"
    assert "running" in states
    assert states[-1] == "done"
    assert [event.number for event in shared.events("alice", id, numbers[-2])] == numbers[-1:]


def test_the_jobs_are_made_in_their_order_and_places_are_told(shared):
    first = shared.submit("alice", request(WAITS))
    wait(shared, "alice", first, "running")
    others = [shared.submit(owner, request(seed)) for owner, seed in (("alice", 1), ("bob", 2), ("alice", 3))]
    owners = ("alice", "bob", "alice")
    assert [shared.status(owner, id).place for owner, id in zip(owners, others)] == [1, 2, 3]
    assert shared.status("alice", first).place is None
    assert shared.cancel("alice", others[0]).state == "cancelled"
    assert [shared.status(owner, id).place for owner, id in zip(owners, others)] == [None, 1, 2]
    shared.cancel("alice", first)
    done = [wait(shared, owner, id) for owner, id in zip(owners[1:], others[1:])]
    assert [status.state for status in done] == ["done", "done"]
    assert done[0].finished <= done[1].started + 0.01


def test_what_belongs_to_another_is_not_there(shared):
    upload = send(shared, "alice")
    id = shared.submit("alice", request(reference=upload.id))
    wait(shared, "alice", id)
    for ask in (
        lambda: shared.status("bob", id),
        lambda: shared.events("bob", id),
        lambda: shared.result("bob", id),
        lambda: shared.preview("bob", id),
        lambda: shared.cancel("bob", id),
        lambda: shared.remove("bob", id),
        lambda: shared.find_upload("bob", upload.id),
        lambda: shared.remove_upload("bob", upload.id),
        lambda: shared.submit("bob", request(reference=upload.id)),
    ):
        with pytest.raises(NotFound):
            ask()
    assert id not in [status.id for status in shared.list("bob")]
    assert upload.id not in [one.id for one in shared.uploads("bob")]
    assert shared.find_upload("alice", upload.id).path.read_bytes() == REFERENCE.read_bytes()
    assert shared.status("alice", id).state == "done"


def test_a_key_is_one_job_of_one_user(shared):
    id = shared.submit("alice", request(6), "monday")
    assert shared.submit("alice", request(6), "monday") == id
    assert shared.submit("bob", request(6), "monday") != id
    with pytest.raises(Conflict) as caught:
        shared.submit("alice", request(7), "monday")
    assert caught.value.field == "key"
    for key in ("", "x" * 201, "a\nb"):
        with pytest.raises(FieldError, match="key: expected 1 to 200 printable characters"):
            shared.submit("alice", request(), key)


def test_a_running_job_is_cancelled_at_once_and_leaves_nothing(shared):
    id = shared.submit("alice", request(WAITS))
    running = wait(shared, "alice", id, "running")
    while running.preview is None:
        running = shared.status("alice", id)
    assert shared.cancel("alice", id).state == "cancelled"
    worker = shared.worker_id
    after = shared.submit("alice", request())
    assert wait(shared, "alice", after).state == "done"
    assert shared.worker_id == worker  # it stopped by itself
    assert not any(running.preview.parent.iterdir())
    assert shared.cancel("alice", id).state == "cancelled"
    with pytest.raises(Conflict, match="is cancelled, not done"):
        shared.result("alice", id)


def test_a_worker_that_does_not_stop_is_ended(shared, monkeypatch):
    monkeypatch.setattr(dispatcher, "_CANCEL_SECONDS", 0.2)
    id = shared.submit("alice", request(IGNORES_CANCEL))
    while wait(shared, "alice", id, "running").stage is None:  # the worker has not begun
        time.sleep(0.01)
    worker = shared.worker_id
    shared.cancel("alice", id)
    assert wait(shared, "alice", shared.submit("alice", request())).state == "done"
    assert shared.worker_id != worker


def test_a_job_whose_worker_was_killed_is_tried_again(shared):
    id = shared.submit("alice", request(DIES_ONCE))
    status = wait(shared, "alice", id)
    assert (status.state, status.attempts) == ("done", 2)
    notes = [note for event in shared.events("alice", id) for note in event.status.notes]
    assert "the worker ended while the job ran (signal 9); it is tried again" in notes


def test_a_job_that_kills_its_worker_twice_has_failed(shared):
    id = shared.submit("alice", request(DIES))
    status = wait(shared, "alice", id)
    assert (status.state, status.attempts) == ("failed", 2)
    assert status.error == "the worker ended while the job ran (status 3), 2 times; it was not tried again"
    assert wait(shared, "alice", shared.submit("alice", request())).state == "done"


def test_an_error_names_its_field(shared):
    status = wait(shared, "alice", shared.submit("alice", request(FAILS)))
    assert (status.state, status.error, status.field) == ("failed", "motion=x: is not good", "motion")


def test_a_job_that_takes_too_long_is_stopped(tmp_path):
    with service(tmp_path, job_timeout=1) as opened:
        status = wait(opened, "alice", opened.submit("alice", request(WAITS)))
        assert status.state == "failed"
        assert status.error == "was stopped after 1 seconds; take fewer frames or steps, or a smaller size"
        assert wait(opened, "alice", opened.submit("alice", request())).state == "done"


def test_the_jobs_survive_a_restart(tmp_path):
    with service(tmp_path) as opened:
        done = opened.submit("alice", request(8), "key")
        wait(opened, "alice", done)
        upload = send(opened, "alice")
        running = opened.submit("alice", request(WAITS))
        wait(opened, "alice", running, "running")
        queued = opened.submit("alice", request(9, reference=upload.id))
    # The next server's worker does not wait.
    worker = [sys.executable, "-c", STAND_IN.replace(f"({WAITS}, {IGNORES_CANCEL})", "()")]
    with Service(settings(tmp_path), worker=worker) as opened:
        assert opened.submit("alice", request(8), "key") == done
        assert opened.result("alice", done)["video"].is_file()
        assert opened.find_upload("alice", upload.id).name == "person.png"
        status = wait(opened, "alice", running)
        assert (status.state, status.attempts) == ("done", 2)
        assert wait(opened, "alice", queued).state == "done"
        assert [status.id for status in opened.list("alice")] == [queued, running, done]


def test_one_server_at_a_time_has_a_workspace(tmp_path):
    with service(tmp_path) as opened:
        with pytest.raises(InputError, match=r"another run .* is writing it"), service(tmp_path):
            pass
        assert stat.S_IMODE(opened.settings.workspace.stat().st_mode) == 0o700


def test_tables_of_another_version_are_refused(tmp_path):
    with service(tmp_path):
        pass
    database = sqlite3.connect(tmp_path / "workspace" / "jobs.sqlite")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(InputError, match="was made by another version"), service(tmp_path):
        pass
    (tmp_path / "workspace" / "jobs.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot be used"), service(tmp_path):
        pass


def test_the_queue_of_a_user_is_bounded(tmp_path):
    with service(tmp_path, queue_length=2) as opened:
        opened.submit("alice", request(WAITS), "one")
        opened.submit("alice", request(WAITS))
        with pytest.raises(QueueFull, match="2 jobs of yours wait or run"):
            opened.submit("alice", request())
        opened.submit("alice", request(WAITS), "one")  # is there already
        opened.submit("bob", request())


def test_old_results_and_uploads_are_removed(tmp_path):
    with service(tmp_path, results_kept=2, uploads_kept=2) as opened:
        jobs = [opened.submit("alice", request(seed)) for seed in range(4)]
        wait(opened, "alice", jobs[-1])
        end = time.monotonic() + 10
        while len(opened.list("alice")) > 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert [status.id for status in opened.list("alice")] == [jobs[3], jobs[2]]
        assert sorted(path.name for path in (tmp_path / "workspace" / "jobs").iterdir()) == sorted(jobs[2:])
        needed = send(opened, "alice")
        waiting = opened.submit("alice", request(WAITS, reference=needed.id))
        others = [send(opened, "alice") for _ in range(3)]
        assert [one.id for one in opened.uploads("alice")] == [others[2].id, others[1].id, needed.id]
        with pytest.raises(Conflict, match=r"person.png: a job that waits or runs needs it"):
            opened.remove_upload("alice", needed.id)
        with pytest.raises(Conflict, match="has not ended; cancel it first"):
            opened.remove("alice", waiting)
        opened.cancel("alice", waiting)
        opened.remove_upload("alice", needed.id)
        opened.remove("alice", waiting)
        assert waiting not in [status.id for status in opened.list("alice")]


def test_a_job_whose_upload_is_gone_has_failed_with_its_field(tmp_path):
    with service(tmp_path) as opened:
        upload = send(opened, "alice")
        first = opened.submit("alice", request(WAITS))
        id = opened.submit("alice", request(reference=upload.id))
        opened._store.remove_upload(upload.id)
        opened.cancel("alice", first)
        status = wait(opened, "alice", id)
        assert (status.state, status.field) == ("failed", "reference")
        assert "there is no such upload; send the file again" in status.error


def test_what_a_killed_server_left_is_removed(tmp_path):
    with service(tmp_path):
        pass
    for name in ("uploads/u-stray", "jobs/j-stray", "temporary/u-stray"):
        (tmp_path / "workspace" / name).mkdir(parents=True)
    with service(tmp_path):
        assert [*(tmp_path / "workspace").glob("*/*stray")] == []
    assert not (tmp_path / "workspace" / "temporary").exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": 101}, "steps"),
        ({"frames": 241}, "frames"),
        ({"width": 1024, "height": 1032}, "width"),
        ({"reference": "u-" + "x" * 22}, "reference"),
    ],
)
def test_limits_are_told_before_anything_is_queued(shared, fields, field):
    with pytest.raises(FieldError) as caught:
        shared.submit("alice", request(**fields))
    assert caught.value.field == field


def test_kinds_must_fit_their_fields(shared):
    upload = send(shared, "alice")
    with pytest.raises(FieldError, match=r"motion=person.png: is a picture; give a motion") as caught:
        shared.submit("alice", request(motion=upload.id))
    assert caught.value.field == "motion"


def test_an_upload_that_is_too_large_leaves_nothing(tmp_path):
    with service(tmp_path, max_upload_mib=1) as opened:
        with pytest.raises(UploadTooLarge, match=r"big.png: is larger than the 1.0 MiB that this server takes"):
            opened.upload("alice", "big.png", io.BytesIO(b"x" * (2**20 + 1)))
        assert [*(tmp_path / "workspace" / "temporary").iterdir()] == []
        assert [*(tmp_path / "workspace" / "uploads").iterdir()] == []


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], None),
        ({"sed": 1}, "sed"),
        ({"edits": 3}, "edits"),
        ({"edits": {"start": 5, "stop": 5}}, "edits.stop"),
        ({"edits": {"mirror": 1}}, "edits.mirror"),
        ({"edits": {"scale": float("nan")}}, "edits.scale"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"fps": "24"}, "fps"),
        ({"reference": "../../etc/passwd"}, "reference"),
        ({"motion": ["built-in"]}, "motion"),
        ({"\ud800": 1}, "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_requests_that_are_refused_name_the_field(value, field):
    with pytest.raises(FieldError) as caught:
        AnimationRequest.from_json(value)
    assert caught.value.field == field


def test_a_request_comes_back_from_its_json():
    asked = AnimationRequest(frames=4, fps=12.0, edits=MotionEdits(start=2, stop=9, mirror=True, scale=1.5))
    assert AnimationRequest.from_json(asked.to_json()) == asked


def test_the_worker_ends_with_the_server(tmp_path):
    with service(tmp_path) as opened:
        id = opened.submit("alice", request(WAITS))
        while wait(opened, "alice", id, "running").stage is None:  # the worker has not begun
            time.sleep(0.01)
        worker = opened.worker_id
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
