"""The fields of the page: a control with its help for each field of a request, and a place for errors beside it."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio

from champ_jax.app import addresses
from champ_jax.app.request import BUILT_IN, AnimationRequest, built_in_motions, built_in_pictures
from champ_jax.app.service import Service
from champ_jax.app.settings import AppSettings
from champ_jax.app.uploads import PICTURE
from champ_jax.common.limits import size_text

NAMES = (
    *("reference", "motion", "edits.start", "edits.stop", "edits.mirror", "edits.align", "edits.move_x"),
    *("edits.move_y", "edits.move_depth", "edits.scale", "width", "height", "steps", "guidance_scale", "seed"),
    *("frames", "fps"),
)
"""The fields of a request, dotted, in the order in which handlers take and give their values."""

GENERAL, EDITS = "", "edits"
"""Places for errors that concern no field, and all edits."""

_FRAMES = 48  # of a motion that is not known yet


class Fields:
    """The controls, and the places for errors beside them.

    `add` makes one inside of whatever Gradio block is open; all of `NAMES`, `EDITS` and `GENERAL` are added once.
    """

    def __init__(self, settings: AppSettings):
        self._settings = settings
        self._controls: dict[str, gradio.components.Component] = {}
        self._errors: dict[str, gradio.HTML] = {}

    def add(self, name: str) -> Any:
        """Makes a field's control and its place for errors; returns the control."""
        self._controls[name] = control = _control(name, self._settings)
        self.add_errors(name)
        return control

    def add_errors(self, name: str) -> None:
        """Makes a place for errors."""
        self._errors[name] = gradio.HTML(visible=False, elem_id=f"error-{name.replace('.', '-')}")

    def __getitem__(self, name: str) -> Any:
        return self._controls[name]

    @property
    def controls(self) -> list[gradio.components.Component]:
        """The controls, in the order of `NAMES`."""
        return [self._controls[name] for name in NAMES]

    @property
    def errors(self) -> list[gradio.HTML]:
        """The places for errors."""
        return list(self._errors.values())

    def show_error(self, message: str | None = None, field: str | None = None) -> dict[Any, Any]:
        """The updates that show an error beside the field it concerns, and nothing elsewhere.

        Args:
          message: the error; None shows none.
          field: the field that it concerns; None, and one that is not on the page, is none.
        """
        named = None if message is None else field or GENERAL
        if named is not None and named not in self._errors:
            named = EDITS if named.startswith("edits") else GENERAL
        shown = f'<p class="field-error" role="alert">{escape(message or "")}</p>'
        return {
            place: gradio.update(value=shown if name == named else "", visible=name == named)
            for name, place in self._errors.items()
        }


def request_of(values: Sequence[Any]) -> AnimationRequest:
    """The request that the controls' values make.

    Args:
      values: in the order of `NAMES`; what is typed is text, and empty for None.

    Raises:
      FieldError: a value is out of its range, or no number.
    """
    given = {name: _number(value) for name, value in zip(NAMES, values, strict=True)}
    plain = {name: value for name, value in given.items() if "." not in name}
    edits = {name.split(".")[1]: value for name, value in given.items() if "." in name}
    return AnimationRequest.from_json({**plain, "edits": edits})


def values_of(request: AnimationRequest) -> list[Any]:
    """The controls' values of a request, in the order of `NAMES`."""
    known = request.to_json()
    flat = {**known, **{f"edits.{name}": value for name, value in known["edits"].items()}}
    return [_text(flat[name]) if name in _TYPED else flat[name] for name in NAMES]


def _number(value: Any) -> Any:
    """The number that a text says, None of an empty one; what says none stays as it is, for the rules to refuse."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value.strip().replace(",", "."))
    return value.strip() or None


def _text(value: float | None) -> str:
    return "" if value is None else str(value).removesuffix(".0")


def choices(service: Service, owner: str, field: str) -> list[tuple[str, str]]:
    """(label, value) of what `reference` or `motion` may be: the user's uploads, newest first, and what is built in."""
    sent = [
        (f"{upload.name}, {_facts(upload.to_json())}", upload.id)
        for upload in service.uploads(owner)
        if (upload.kind == PICTURE) == (field == "reference")
    ]
    return sent + _built_in(field)


def _facts(upload: Mapping[str, Any]) -> str:
    """What distinguishes two uploads of one name."""
    size = f"{upload['width']} × {upload['height']}"
    return size if upload["kind"] == PICTURE else f"{upload['kind']}, {upload['frames'] or '?'} frames"


def _built_in(field: str) -> list[tuple[str, str]]:
    known = built_in_pictures() if field == "reference" else built_in_motions()
    labels = {BUILT_IN: f"Built-in {'picture' if field == 'reference' else 'motion'}"}
    people = [name for name in known if name.startswith("p0")]
    labels |= {name: f"Person {number}" for number, name in enumerate(people, 1)}
    return [(labels.get(name, name.capitalize()), name) for name in known]


def upload_area(field: str, settings: AppSettings) -> gradio.HTML:
    """Where files are dropped, or chosen, for `reference` or `motion`: they are sent to the API.

    Its event `upload` has the upload's `id`, or the `error` that the API gave; the other is None.
    """
    limit = settings.max_upload_mib * 2**20
    what = "a picture" if field == "reference" else "a motion"
    kinds = "PNG, JPEG, WebP and others" if field == "reference" else "A motion.npz, a motion folder as zip, or a video"
    return gradio.HTML(
        f'<champ-upload to="{addresses.API}/uploads" label="Drop {what}, or choose a file" limit="{limit}" '
        f'limit-text="{size_text(limit)}"></champ-upload>'
        f'<p class="help">{kinds}; at most {settings.max_upload_mib:,} MiB.</p>',
        js_on_load="element.addEventListener('champ-sent', event => trigger('upload', event.detail));",
        elem_id=f"upload-{field}",
    )


def frame_slider() -> gradio.Slider:
    """Which frame is shown before the animation is made."""
    return gradio.Slider(
        0,
        _FRAMES - 1,
        0,
        step=1,
        label="Frame to look at",
        info="Which frame of the motion the drawing shows.",
        elem_id="field-frame",
    )


def _control(name: str, settings: AppSettings) -> gradio.components.Component:
    default = dict(zip(NAMES, values_of(AnimationRequest())))[name]
    shared: dict[str, Any] = {"elem_id": f"field-{name.replace('.', '-')}", "label": _LABELS[name][0]}
    shared["info"] = _LABELS[name][1].format(**dataclasses.asdict(settings))
    if name in ("reference", "motion"):
        return gradio.Dropdown(_built_in(name), value=BUILT_IN, filterable=False, **shared)
    if isinstance(default, bool):
        return gradio.Checkbox(default, **shared)
    if name in _SLIDERS:
        low, high, step = _SLIDERS[name]
        return gradio.Slider(low, high, default, step=step, **shared)
    return gradio.Textbox(default, placeholder=_TYPED[name], max_lines=1, **shared)


_SLIDERS = {
    "edits.start": (0, _FRAMES - 1, 1),
    "edits.move_x": (-1, 1, 0.01),
    "edits.move_y": (-1, 1, 0.01),
    "edits.move_depth": (-5, 5, 0.05),
    "edits.scale": (0.2, 3, 0.01),
}

_TYPED = {
    "edits.stop": "all",
    "width": "the picture's",
    "height": "the model's",
    "steps": "the model's",
    "guidance_scale": "the model's",
    "seed": "42",
    "frames": "all",
    "fps": "the motion's",
}
"""{field that is typed: what stands in it while it is empty}."""

_LABELS = {
    "reference": ("Picture", "Whom to animate: a person, best seen whole."),
    "motion": ("Motion", "What the person does, and from where it is seen."),
    "edits.start": ("First frame", "The motion begins with this frame; what comes before is left out."),
    "edits.stop": ("Stop before frame", "The motion ends before this frame; empty keeps all to the end."),
    "edits.mirror": ("Mirror", "Left and right change, as in a mirror."),
    "edits.align": ("Put onto the person of the picture", "Finds the person in the picture and takes size and place."),
    "edits.move_x": ("Move to the right", "In widths of the picture; below 0 to the left."),
    "edits.move_y": ("Move down", "In heights of the picture; below 0 up."),
    "edits.move_depth": ("Move away", "In meters from the camera; below 0 nearer."),
    "edits.scale": ("Size of the person", "How many times as large the person appears."),
    "width": ("Width", "Pixels of the video; empty follows the picture's shape."),
    "height": ("Height", "Pixels of the video; empty takes the model's. At most {max_video_pixels:,} pixels in all."),
    "steps": ("Steps", "More are slower and finer; empty takes the model's. At most {max_steps}."),
    "guidance_scale": ("Guidance", "How strictly picture and motion are followed; empty takes the model's."),
    "seed": ("Seed", "Another number gives another take; the same repeats one."),
    "frames": ("Frames", "How many to make, at most {max_frames}; empty makes all of the motion."),
    "fps": ("Frames per second", "Of the video; empty keeps the motion's speed."),
}
"""{field: (label, help)}; the help may name limits of the server."""
