"""The people of pictures, found and fitted in the background while users look at how a motion will stand."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError

_KEPT = 64  # people, the newest
_WAITING = 8  # pictures, at most


class People:
    """Fits the people of pictures, one after another, in a thread of its own.

    Its methods may be called from any thread. A fit that has begun is not waited for when the program ends.
    """

    def __init__(self, fit: Callable[[Path, Path], Motion]):
        """`fit` makes the motion of a picture's person, and keeps it at a place; it raises InputError."""
        self._fit = fit
        self._found: OrderedDict[Path, Motion | InputError] = OrderedDict()
        self._waiting: OrderedDict[Path, Path] = OrderedDict()
        self._current: Path | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def find(self, picture: Path, place: Path) -> Motion | None:
        """The person of a picture, or None until it is found.

        Args:
          picture: the file, which never changes.
          place: where the fit is kept.

        Raises:
          InputError: nobody is seen, or the picture cannot be read.
        """
        with self._changed:
            found = self._found.get(picture)
            if isinstance(found, InputError):
                raise InputError(str(found))
            if found is not None:
                self._found.move_to_end(picture)
                return found
            if picture not in self._waiting and picture != self._current:
                self._waiting[picture] = place
                if len(self._waiting) > _WAITING:
                    self._waiting.popitem(last=False)  # who still looks at it asks again
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="people", daemon=True)
                self._thread.start()
            return None

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                self._current, place = self._waiting.popitem(last=False)
                picture = self._current
            found: Motion | InputError
            try:
                found = self._fit(picture, place)
            except InputError as error:
                found = error
            except Exception as error:  # the next picture may do
                found = InputError(f"{picture.name}: the person could not be fitted ({type(error).__name__})")
            with self._changed:
                self._found[picture], self._current = found, None
                while len(self._found) > _KEPT:
                    self._found.popitem(last=False)
