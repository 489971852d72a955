"""The page in the browser: what is shown, and what happens when something is changed, pressed or finished."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio

from champ_jax.app import page_view
from champ_jax.app.identity import owner_of
from champ_jax.app.page_fields import (
    EDITS,
    GENERAL,
    NAMES,
    Fields,
    choices,
    frame_slider,
    request_of,
    upload_area,
    values_of,
)
from champ_jax.app.people import People
from champ_jax.app.preview import draw_preview, motion_length
from champ_jax.app.request import AnimationRequest, FieldError, is_upload
from champ_jax.app.service import JobStatus, NotFound, Service, public
from champ_jax.app.settings import AppSettings
from champ_jax.app.store import DONE
from champ_jax.app.uploads import MOTION, PICTURE, VIDEO
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.progress import Progress
from champ_jax.inference import driving

_TICK = 0.5  # seconds between two looks at a job that waits or runs
_LOOK = 1.0  # seconds between two looks whether the picture's person was found

Updates = dict[Any, Any]
"""{component: its new value or properties}, as Gradio's handlers give them."""

Shown = list[Any]

DEFAULTS = values_of(AnimationRequest())

_ADJUST: tuple[tuple[str, ...], ...] = (
    ("edits.move_x", "edits.move_y"),
    ("edits.move_depth", "edits.scale"),
    ("edits.align", "edits.mirror"),
    ("edits.start", "edits.stop"),
)
_VIDEO: tuple[tuple[str, ...], ...] = (("width", "height"), ("frames", "fps"), ("steps", "guidance_scale"), ("seed",))
"""The fields of a section, row by row."""

_PICK = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-job]');
  if (button) trigger('select', {job: button.dataset.job});
});"""


def build_page(service: Service, settings: AppSettings) -> gradio.Blocks:
    """The page, to be mounted by `champ_jax.app.page_mount.mount_page`.

    Args:
      service: does what the page asks for.
      settings: the server's, whose limits the helps name.
    """
    return _Page(service, settings).blocks


class _Page:
    """The components, and the handlers of their events."""

    def __init__(self, service: Service, settings: AppSettings):
        self._service, self._settings = service, settings
        self._people = People(self._fit)
        with gradio.Blocks(title="Champ", analytics_enabled=False, fill_width=True) as self.blocks:
            self._build()
            self._wire()

    def _build(self) -> None:
        self._fields = fields = Fields(self._settings)
        self._job = gradio.State(None)  # the id of the job that is shown
        self._shown = gradio.State(None)  # what of it is shown
        self._timer = gradio.Timer(_TICK, active=False)
        self._looking = gradio.Timer(_LOOK, active=False)
        gradio.HTML(
            "<h1>Champ</h1><p>Animates a picture of a person with a body's motion.</p>",
            elem_id="title",
        )
        with gradio.Row(elem_id="page"):
            with gradio.Column(elem_id="left"):
                with _section("inputs", "Picture and motion"), gradio.Row():
                    self._uploads = {}
                    for field in ("reference", "motion"):
                        with gradio.Column(min_width=220):
                            fields.add(field)
                            self._uploads[field] = upload_area(field, self._settings)
                with _section("adjust", "Before the camera"):
                    with gradio.Row(), gradio.Column():
                        self._frame = frame_slider()
                    for row in _ADJUST:
                        self._row(row)
                    fields.add_errors(EDITS)
                with _section("video", "The video"):
                    for row in _VIDEO:
                        self._row(row)
            with gradio.Column(elem_id="side"):
                with _section("look", "How it will stand"):
                    self._drawing = gradio.HTML(elem_id="drawing")
                with _section("make", "The animation"):
                    with gradio.Row():
                        self._animate = gradio.Button("Animate", variant="primary", elem_id="animate")
                        self._cancel = gradio.Button("Cancel", variant="stop", elem_id="cancel", interactive=False)
                    fields.add_errors(GENERAL)
                    self._progress = gradio.HTML(
                        elem_id="progress", html_template='<div role="status" aria-live="polite">${value}</div>'
                    )
                    self._live = gradio.HTML(elem_id="live")
                    self._result = gradio.HTML(elem_id="result")
                with _section("last", "Your animations"):
                    self._gallery = gradio.HTML(elem_id="gallery", js_on_load=_PICK)
                    self._remove = gradio.Button(
                        "Remove the one that is shown", size="sm", elem_id="remove", interactive=False
                    )

    def _row(self, names: Sequence[str]) -> None:
        """Fields side by side, below each other where it is narrow."""
        with gradio.Row():
            for name in names:
                with gradio.Column(min_width=200):
                    self._fields.add(name)

    def _wire(self) -> None:
        fields = self._fields
        values = fields.controls
        self._looked = [self._drawing, self._looking, *fields.errors]
        self._counted = [self._frame, fields["edits.start"], fields["edits.stop"]]
        self._job_parts = [self._job, self._shown, self._timer, self._cancel, self._remove, self._progress]
        self._job_parts += [self._live, self._result, self._gallery]
        chosen = [self._frame, *values]
        everything = [*values, self._frame, *self._looked, *self._job_parts]
        _on(self.blocks.load, self._open, [self._frame], everything)
        for name in NAMES:
            if name.startswith("edits") or name == "reference":
                self._on_look(fields[name].input, self._look, chosen, self._looked)
        self._on_look(self._frame.input, self._look, chosen, self._looked)
        self._on_look(self._looking.tick, self._look, chosen, self._looked)
        self._on_look(fields["motion"].input, self._choose_motion, chosen, [*self._counted, *self._looked])
        for field, area in self._uploads.items():
            received = [fields[field], *self._counted, *self._looked]
            _on(area.upload, self._receiver(field), chosen, received)
        submitted = [*self._job_parts, *fields.errors]
        _on(self._animate.click, self._submit, values, submitted)
        _on(self._cancel.click, self._stop, [self._job], self._job_parts, queue=False)
        _on(self._timer.tick, self._tick, [self._job, self._shown], submitted, queue=False)
        _on(self._gallery.select, self._pick, [self._frame], everything)
        _on(self._remove.click, self._forget, [self._job], self._job_parts, queue=False)

    def _on_look(self, event: Any, handler: Callable[..., Updates], inputs: list[Any], outputs: list[Any]) -> None:
        """Draws while something is moved: what it was in between is left out, and few are drawn at once."""
        _on(event, handler, inputs, outputs, trigger_mode="always_last", concurrency_id="look", concurrency_limit=2)

    # What is chosen

    def _open(self, request: gradio.Request, frame: int) -> Updates:
        """The page as it opens: the user's uploads, and the newest job."""
        owner = owner_of(request)
        jobs = self._service.list(owner)
        updates = {self._fields[field]: self._choices(owner, field) for field in self._uploads}
        updates |= self._count(owner, DEFAULTS) | self._show(owner, jobs[0] if jobs else None)
        return updates | self._draw(owner, frame, DEFAULTS)

    def _choices(self, owner: str, field: str, **chosen: Any) -> Any:
        return gradio.update(choices=choices(self._service, owner, field), **chosen)

    def _look(self, request: gradio.Request, frame: int, *values: Any) -> Updates:
        return self._draw(owner_of(request), frame, values)

    def _draw(self, owner: str, frame: int, values: Sequence[Any]) -> Updates:
        """The drawing of what is chosen, or the error beside its field."""
        person, body = None, self._settings.body
        notes: tuple[str, ...] = ()
        try:
            wanted = request_of(values)
            _, reference = self._service.source(owner, "reference", wanted.reference)
            kind, motion = self._service.source(owner, "motion", wanted.motion)
            aligned = wanted.edits.align and kind == MOTION
            if aligned:
                person = self._person(wanted.reference, reference)
            drawn = draw_preview(reference, kind, motion, wanted.edits, int(frame), body=body, person=person)
        except InputError as error:
            return {self._looking: gradio.update(active=False)} | self._failure(error)
        if aligned and person is None:
            notes = ("The person of the picture is being looked for; until then the motion is drawn where it was.",)
        elif kind == VIDEO:
            notes = ("Bodies are found in the video, and put onto the picture's person, when the animation is made.",)
        drawn = dataclasses.replace(drawn, notes=(*notes, *drawn.notes))
        return {
            self._drawing: page_view.drawing(drawn),
            self._looking: gradio.update(active=aligned and person is None),
        } | self._fields.show_error()

    def _person(self, source: str, picture: Path) -> Motion | None:
        """The picture's person, or None until it is found."""
        try:
            return self._people.find(picture, self._service.fit_place(source, PICTURE))
        except InputError as error:
            raise FieldError(error, "edits.align") from error

    def _fit(self, picture: Path, place: Path) -> Motion:
        """Fits the person of a picture, and keeps it where the worker looks for it."""
        body = self._settings.body
        return driving.fitted(picture, place, body, load_body(body or None), Progress(quiet=True))

    def _failure(self, error: InputError, field: str | None = None) -> Updates:
        """The error beside its field, without the places of private files."""
        message = public(str(error), self._settings.workspace)
        return self._fields.show_error(message, getattr(error, "field", None) or field)

    def _choose_motion(self, request: gradio.Request, frame: int, *values: Any) -> Updates:
        """Another motion: all of it is kept."""
        owner = owner_of(request)
        untrimmed = _changed(values, {"edits.start": 0, "edits.stop": ""})
        return self._count(owner, untrimmed) | self._draw(owner, frame, untrimmed)

    def _count(self, owner: str, values: Sequence[Any]) -> Updates:
        """The controls that count frames, for the motion and the trim among the values."""
        given, fields = dict(zip(NAMES, values)), self._fields
        try:
            count = self._frames(owner, given["motion"])
        except InputError:  # which the drawing shows
            count = 1
        last = max(count - 1, 1)
        return {
            self._frame: gradio.update(maximum=last),
            fields["edits.start"]: gradio.update(maximum=last, value=given["edits.start"]),
            fields["edits.stop"]: gradio.update(placeholder=f"all {count}", value=given["edits.stop"]),
        }

    def _frames(self, owner: str, motion: str) -> int:
        if is_upload(motion):
            return self._service.find_upload(owner, motion).frames or 1
        return motion_length(self._service.source(owner, "motion", motion)[1])

    def _receiver(self, field: str) -> Callable[..., Updates]:
        """The handler of a file that was sent for `reference` or `motion`, or of one that could not be."""

        def receive(request: gradio.Request, event: gradio.EventData, frame: int, *values: Any) -> Updates:
            if event.error is not None:
                return self._fields.show_error(str(event.error), field)
            owner, id = owner_of(request), str(event.id)
            try:
                self._service.source(owner, field, id)
            except InputError as error:
                return self._failure(error, field)
            changes = {field: id} | ({"edits.start": 0, "edits.stop": ""} if field == "motion" else {})
            changed = _changed(values, changes)
            updates = {self._fields[field]: self._choices(owner, field, value=id)}
            return updates | self._count(owner, changed) | self._draw(owner, frame, changed)

        return receive

    # The job

    def _submit(self, request: gradio.Request, *values: Any) -> Updates:
        owner = owner_of(request)
        try:
            id = self._service.submit(owner, request_of(values))
            return self._show(owner, self._service.status(owner, id)) | self._fields.show_error()
        except InputError as error:
            return self._failure(error)

    def _stop(self, request: gradio.Request, job: str | None) -> Updates:
        owner = owner_of(request)
        with contextlib.suppress(NotFound):
            if job is not None:
                return self._show(owner, self._service.cancel(owner, job))
        return self._show(owner, None)

    def _tick(self, request: gradio.Request, job: str | None, shown: Shown | None) -> Updates:
        """What has changed of the job that is shown."""
        owner = owner_of(request)
        try:
            if job is None:
                return self._show(owner, None)
            status = self._service.status(owner, job)
        except NotFound:
            return self._show(owner, None)
        if shown is not None and shown == _shown(status):
            return {self._job: gradio.skip()}
        updates = self._show(owner, status)
        if shown is not None and shown[:2] == [status.id, status.state]:  # a video that is set again starts again
            for part in (self._result, self._gallery):
                del updates[part]
        if status.error is not None and status.field is not None:
            updates |= self._fields.show_error(status.error, status.field)
        return updates

    def _pick(self, request: gradio.Request, event: gradio.EventData, frame: int) -> Updates:
        """A job of the gallery: what it was made of, and its result."""
        owner = owner_of(request)
        try:
            status = self._service.status(owner, str(event.job))
        except NotFound as error:
            return self._show(owner, None) | self._failure(error)
        values = values_of(status.request)
        updates = dict(zip(self._fields.controls, values))
        updates |= self._count(owner, values)
        return updates | self._show(owner, status) | self._draw(owner, frame, values)

    def _forget(self, request: gradio.Request, job: str | None) -> Updates:
        owner = owner_of(request)
        with contextlib.suppress(InputError):
            if job is not None:
                self._service.remove(owner, job)
        jobs = self._service.list(owner)
        return self._show(owner, jobs[0] if jobs else None)

    def _show(self, owner: str, status: JobStatus | None) -> Updates:
        """Everything that is shown of a job; None shows that there is none."""
        jobs, result = self._service.list(owner), ""
        active = status is not None and not status.is_finished
        if status is not None and status.state == DONE:
            with contextlib.suppress(InputError):  # removed meanwhile
                result = page_view.result(status, self._service.result(owner, status.id))
        return {
            self._job: None if status is None else status.id,
            self._shown: None if status is None else _shown(status),
            self._timer: gradio.update(active=active),
            self._cancel: gradio.update(interactive=active),
            self._remove: gradio.update(interactive=status is not None and not active),
            self._progress: "" if status is None else page_view.progress(status),
            self._live: "" if status is None else page_view.live(status),
            self._result: result,
            self._gallery: page_view.gallery(jobs, None if status is None else status.id),
        }


def _shown(status: JobStatus) -> Shown:
    """What tells whether a job has changed since it was shown; the first two say which job, and whether its state."""
    about = (status.place, status.stage, status.step, status.steps, status.attempts, len(status.notes))
    left = None if status.seconds_left is None else round(status.seconds_left)
    return [status.id, status.state, *about, left, status.preview and status.preview.name]


def _changed(values: Sequence[Any], changes: Mapping[str, Any]) -> list[Any]:
    """The controls' values with some changed."""
    return [changes.get(name, value) for name, value in zip(NAMES, values)]


@contextlib.contextmanager
def _section(name: str, title: str) -> Iterator[None]:
    with gradio.Group(elem_id=name, elem_classes="section"):
        gradio.HTML(f"<h2>{title}</h2>")
        yield


def _on(event: Any, handler: Callable[..., Updates], inputs: list[Any], outputs: list[Any], **more: Any) -> None:
    event(handler, inputs, outputs, show_progress="hidden", api_visibility="private", **more)
