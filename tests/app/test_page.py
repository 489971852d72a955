"""The page's parts without a browser: fields and their errors, pieces of HTML, and the routes that are open."""

import dataclasses
from pathlib import Path

import gradio
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_server import PageServer

from champ_jax.app import page_view
from champ_jax.app.page_fields import EDITS, GENERAL, NAMES, Fields, request_of, values_of
from champ_jax.app.preview import BODY, PICTURE, Preview
from champ_jax.app.request import AnimationRequest, FieldError, MotionEdits
from champ_jax.app.service import JobStatus
from champ_jax.app.settings import AppSettings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with PageServer(tmp_path_factory.mktemp("page") / "workspace", max_upload_mib=1) as running:
        yield running


@pytest.fixture(scope="module")
def fields() -> Fields:
    with gradio.Blocks(analytics_enabled=False):
        made = Fields(AppSettings(max_steps=77))
        for name in NAMES:
            made.add(name)
        made.add_errors(EDITS)
        made.add_errors(GENERAL)
    return made


REQUESTS = st.builds(
    AnimationRequest,
    edits=st.builds(
        MotionEdits,
        start=st.integers(0, 9),
        stop=st.none() | st.integers(10, 99),
        mirror=st.booleans(),
        scale=st.floats(0.1, 10),
    ),
    width=st.none() | st.integers(8, 4096),
    steps=st.none() | st.integers(1, 99),
    guidance_scale=st.none() | st.floats(0, 1000),
    seed=st.integers(0, 2**32 - 1),
    fps=st.none() | st.sampled_from([12.5, 24.0]),
)


@settings(max_examples=20, deadline=None)
@given(REQUESTS)
def test_a_request_is_what_its_fields_say(request: AnimationRequest):
    assert request_of(values_of(request)) == request


def test_every_field_of_a_request_is_on_the_page():
    edits = {f"edits.{field.name}" for field in dataclasses.fields(MotionEdits)}
    assert set(NAMES) == {field.name for field in dataclasses.fields(AnimationRequest)} - {"edits"} | edits


def test_every_field_has_a_name_and_a_help(fields: Fields):
    for control in fields.controls:
        assert control.label, control.elem_id
        assert len(control.info) > 15, control.elem_id
    assert "77" in fields["steps"].info


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("steps", "many", "steps=many: expected a whole number from 1 to 100,000 or None"),
        ("steps", "2.5", "steps=2.5: expected a whole number from 1 to 100,000 or None"),
        ("width", "7", "width=7: expected a whole number from 8 to 16,384 or None"),
        ("seed", "", "seed=None: expected a whole number from 0 to 4,294,967,295"),
        ("fps", "nan", "fps=nan: expected a number from 0.1 to 1,000 or None"),
        ("edits.stop", "-3", "edits.stop=-3: expected a whole number from 1 to 1,000,000 or None"),
    ],
)
def test_what_is_typed_wrong_is_told_beside_its_field(fields: Fields, field: str, typed: str, message: str):
    values = [typed if name == field else value for name, value in zip(NAMES, values_of(AnimationRequest()))]
    with pytest.raises(FieldError) as caught:
        request_of(values)
    assert str(caught.value) == message
    assert shown(fields, str(caught.value), caught.value.field) == {f"error-{field.replace('.', '-')}": message}


def shown(fields: Fields, message: str | None, field: str | None) -> dict[str, str]:
    """{id of a place: error} of the places that show one."""
    updates = fields.show_error(message, field)
    assert set(updates) == set(fields.errors)
    texts = {place.elem_id: update for place, update in updates.items() if update["visible"]}
    return {id: update["value"].split(">")[1].split("<")[0] for id, update in texts.items()}


def test_errors_of_no_field_on_the_page_have_a_place(fields: Fields):
    assert shown(fields, "full", None) == {"error-": "full"}
    assert shown(fields, "why", "key") == {"error-": "why"}
    assert shown(fields, "why", "edits.other") == {"error-edits": "why"}
    assert shown(fields, None, "width") == {}


def test_what_files_and_errors_say_is_text_and_no_markup(fields: Fields):
    evil = "<img src=x onerror=alert(1)>"
    assert evil not in str(fields.show_error(evil, "width"))
    status = JobStatus("j-1", "failed", AnimationRequest(), stage=evil, error=evil, notes=(evil,))
    assert evil not in page_view.progress(status)
    assert evil not in page_view.progress(dataclasses.replace(status, state="running", error=None))
    image = np.zeros((8, 8, 3), np.uint8)
    assert evil not in page_view.drawing(Preview(3, 1, {PICTURE: image, BODY: image}, (evil,)))


def test_a_job_is_told_in_words():
    queued = JobStatus("j-1", "queued", AnimationRequest(), place=3)
    assert "place 3 in the queue" in page_view.progress(queued)
    assert "next in the queue" in page_view.progress(dataclasses.replace(queued, place=1))
    running = JobStatus("j-1", "running", AnimationRequest(), stage="denoise", step=3, steps=20, seconds_left=200.0)
    text = page_view.progress(running)
    for part in ("denoise", "3 of 20", "about 3 min 20 s left", 'value="3" max="20"'):
        assert part in text
    assert "attempt 2" in page_view.progress(dataclasses.replace(running, attempts=2))
    assert "<progress" not in page_view.progress(dataclasses.replace(running, state="done"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str):
    assert page_view.duration(seconds) == text


def test_the_page_is_given_with_a_policy_that_allows_no_other_host(server: PageServer):
    answer = httpx.get(server.url)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy
    for element in ("<script src=", "<link"):  # what a page without scripts would already ask for
        for part in answer.text.split(element)[1:]:
            assert "//" not in part.split(">")[0].replace(server.url, "")


@pytest.mark.parametrize(
    "route",
    [
        *("gradio_api/upload", "gradio_api/upload_progress?upload_id=x", "gradio_api/upload/"),
        *("gradio_api/file=/etc/passwd", "gradio_api/file=http://127.0.0.1/", "gradio_api/file/etc/passwd", "file=x"),
        *("gradio_api/proxy=http://127.0.0.1/", "gradio_api/runs", "gradio_api/run-history/buckets", "runs"),
        *("gradio_api/vibe-code", "gradio_api/openapi.json", "gradio_api/deep_link", "gradio_api/dev/reload"),
        *("gradio_api/component_server", "gradio_api/process_recording", "custom_component/x/y/z/w"),
        *("monitoring", "login", "gradio_api/stream/x/y/z/playlist.m3u8", "gradio_api/mcp/", "pwa_icon", "static/../x"),
        *("gradio_api/app_id", "gradio_api/token", "gradio_api/user", "gradio_api//file=/etc/passwd"),
    ],
)
def test_what_the_page_does_not_need_is_closed(server: PageServer, route: str):
    """Neither files nor other addresses are given, whatever Gradio has for them."""
    for method in ("GET", "POST"):
        answer = httpx.request(method, server.url + route)
        assert answer.status_code in (404, 405), (method, answer.text[:200])


@pytest.mark.parametrize(
    "inputs",
    [
        [{"path": "http://127.0.0.1:1/x", "meta": {"_type": "gradio.FileData"}}],
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
        [[1]],
        {"path": "x"},
        ["x" * 2**17],
    ],
)
def test_handlers_are_given_plain_values_alone(server: PageServer, inputs: object):
    """Of an object Gradio would make a file, or fetch one."""
    body = {"data": inputs, "fn_index": 0, "session_hash": "x"}
    for route in ("gradio_api/queue/join", "gradio_api/run/predict"):
        assert httpx.post(server.url + route, json=body).status_code == 400
        assert httpx.post(server.url + route, content=b"{").status_code == 400


def test_the_pages_pictures_in_the_documents_are_small():
    pictures = sorted((Path(__file__).parents[2] / "docs" / "app").iterdir())
    assert [picture.name for picture in pictures] == ["adjust.png", "phone.png", "result.png"]
    assert max(picture.stat().st_size for picture in pictures) < 300 * 1024
