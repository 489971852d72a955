"""The fields of `python -m champ_jax.app`: defaults, ranges, help. docs/app.md describes them."""

import dataclasses
import ipaddress
import os
import re
from pathlib import Path

import ml_collections

from champ_jax.common.configs import Guide
from champ_jax.common.errors import InputError
from champ_jax.common.field_meanings import comments_of
from champ_jax.common.ranges import Choice, Integer, Rule, check_config

TOKEN_VARIABLE = "CHAMP_APP_TOKEN"
PASSWORD_VARIABLE = "CHAMP_APP_PASSWORD"
"""Environment variables that stand for an empty field: the command line of a process can be read by others."""

_LEAST_SECRET = 12  # characters of a token or a password

RULES: dict[str, Rule] = {
    "port": Integer(minimum=0, maximum=65535),
    "dtype": Choice("auto", "bfloat16", "float32"),
    "max_upload_mib": Integer(minimum=1, maximum=1024 * 64),
    "max_picture_pixels": Integer(minimum=64, maximum=2**27),
    "max_video_pixels": Integer(minimum=64, maximum=2**27),
    "max_frames": Integer(minimum=1, maximum=1_000_000),
    "max_driving_frames": Integer(minimum=1, maximum=1_000_000),
    "max_steps": Integer(minimum=1, maximum=100_000),
    "job_timeout": Integer(minimum=1, maximum=7 * 24 * 3600),
    "queue_length": Integer(minimum=1, maximum=100_000),
    "results_kept": Integer(minimum=1, maximum=100_000),
    "uploads_kept": Integer(minimum=1, maximum=100_000),
}
"""{field: the values it may have}."""

GROUPS = {
    "Where it listens": ("host", "port", "names"),
    "Who may use it": ("token", "user", "password"),
    "The model": ("weights", "untrained", "body", "dtype"),
    "Files": ("workspace", "results_kept", "uploads_kept"),
    "Limits": (
        *("max_upload_mib", "max_picture_pixels", "max_video_pixels", "max_frames", "max_driving_frames"),
        *("max_steps", "job_timeout", "queue_length"),
    ),
}
"""{heading in --help: its fields}."""


def get_config() -> ml_collections.ConfigDict:
    """The default configuration. --help prints the comments."""
    config = ml_collections.ConfigDict()
    config.host = "127.0.0.1"  # the address to listen on; another than this machine's own needs a token or a password
    config.port = 7860  # the port to listen on; 0: one that is free
    config.names = ""  # names other than localhost by which browsers reach the server, separated by commas
    config.token = ""  # who knows it may use the server, at least 12 characters; empty: $CHAMP_APP_TOKEN, or none
    config.user = ""  # the user's name that browsers ask for, with `password`; empty: none
    config.password = ""  # the user's password, at least 12 characters; empty: $CHAMP_APP_PASSWORD, or none
    # a converted checkpoint, a training work folder or a packed model; empty: the small built-in model
    config.weights = ""
    config.untrained = False  # accepts weights that hold parts no training of a Champ has seen
    config.body = ""  # the body model file for motions; empty: the open body
    config.dtype = "auto"  # the dtype of the computation; auto: float32 on CPUs, bfloat16 elsewhere
    config.workspace = "results/app"  # the private folder of uploads, jobs and results
    config.results_kept = 20  # finished jobs that are kept of each user
    config.uploads_kept = 40  # uploads that are kept of each user
    config.max_upload_mib = 256  # MiB of an upload
    config.max_picture_pixels = 50_000_000  # pixels of a picture, and of a frame of a driving video
    config.max_video_pixels = 1024 * 1024  # pixels of the video to make
    config.max_frames = 240  # frames of the video to make
    config.max_driving_frames = 1800  # frames of a driving video, of a motion and of a motion folder
    config.max_steps = 100  # denoising steps
    config.job_timeout = 3600  # seconds after which a job is stopped
    config.queue_length = 10  # jobs of each user that wait or run at once
    return config


def guide() -> Guide:
    """What --help says of the fields."""
    return Guide(RULES, comments_of(get_config), GROUPS)


@dataclasses.dataclass(frozen=True)
class AppSettings:
    """What a server was started with.

    Attributes:
      host, port: where it listens.
      names: host names, other than addresses and localhost, by which browsers may reach it.
      token: what opens the server; '' for none.
      user, password: the same for browsers, by HTTP's basic authentication; '' for none.
      weights: the weights' path; '' for the built-in model.
      untrained: whether weights may hold parts that no training of a Champ has seen.
      body: the body file of motions; '' for the open body.
      dtype: 'auto', 'bfloat16' or 'float32'.
      workspace: the private folder.
      results_kept, uploads_kept: numbers of finished jobs and of uploads that are kept of each user.
      max_upload_mib: MiB of an upload.
      max_picture_pixels: pixels of a picture and of a driving video's frame.
      max_video_pixels, max_frames, max_steps: limits of what is made.
      max_driving_frames: frames of a driving video or of an uploaded motion.
      job_timeout: seconds that a job may take.
      queue_length: jobs of a user that wait or run at once.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()
    token: str = ""
    user: str = ""
    password: str = ""
    weights: str = ""
    untrained: bool = False
    body: str = ""
    dtype: str = "auto"
    workspace: Path = Path("results/app")
    results_kept: int = 20
    uploads_kept: int = 40
    max_upload_mib: int = 256
    max_picture_pixels: int = 50_000_000
    max_video_pixels: int = 1024 * 1024
    max_frames: int = 240
    max_driving_frames: int = 1800
    max_steps: int = 100
    job_timeout: int = 3600
    queue_length: int = 10

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "AppSettings":
        """The settings in a config of `get_config`; empty secrets are looked for in the environment.

        Raises:
          InputError: names the field that is out of its range, or says that the server would be open to strangers.
        """
        check_config(config, RULES)
        values = {field.name: config[field.name] for field in dataclasses.fields(cls)}
        values["names"] = tuple(name.strip().lower() for name in config.names.split(",") if name.strip())
        values["workspace"] = Path(config.workspace).expanduser().absolute()
        values["token"] = config.token or os.environ.get(TOKEN_VARIABLE, "")
        values["password"] = config.password or (os.environ.get(PASSWORD_VARIABLE, "") if config.user else "")
        settings = cls(**values)
        settings.check()
        return settings

    def check(self) -> None:
        """Raises InputError, naming the field, for secrets that are none and for a server that strangers could use."""
        if bool(self.user) != bool(self.password):
            missing, given = ("password", "user") if self.user else ("user", "password")
            raise InputError(f"--config.{missing}: is empty; give it with --config.{given}")
        for name, secret in (("token", self.token), ("password", self.password)):
            if secret and (len(secret) < _LEAST_SECRET or not re.fullmatch(r"[!-~]+", secret)):
                raise InputError(
                    f"--config.{name}: must be {_LEAST_SECRET} or more printable ASCII characters without spaces"
                )
        if self.user and not re.fullmatch(r"[!-9;-~]+", self.user):
            raise InputError("--config.user: must be printable ASCII characters without spaces and colons")
        for name in self.names:
            if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
                raise InputError(f"--config.names={name}: is not the name of a host, such as animate.example.org")
        if not is_loopback(self.host) and not self.protected:
            raise InputError(
                f"--config.host={self.host}: others can reach this address; give --config.token, or --config.user and "
                "--config.password, or listen on 127.0.0.1"
            )
        if not self.workspace.name:
            raise InputError(f"--config.workspace={self.workspace}: name a folder of its own")

    @property
    def protected(self) -> bool:
        """Whether one needs a token or a password."""
        return bool(self.token or self.user)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
