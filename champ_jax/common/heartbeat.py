"""One process of a run that ends takes the others with it, at once and with a line that says which one and why.

JAX's own heartbeats notice a death only after their timeout, in the middle of a collective, and end the process with a
stack trace. Here every process holds a TCP connection to process 0. The kernel closes it when a process dies, however
it dies; where a whole host or its network falls silent, messages that stay away tell.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from champ_jax.common.errors import InputError

BEAT = 5.0  # seconds between signs of life
PARTING = 2.0  # seconds that the others have to read why this one ends


class Watch:
    """This process's view of the others; runs in a thread of its own until `close`.

    When another process dies, stops with an error or falls silent, this one prints one line on stderr and exits with 1.
    """

    def __init__(self, process: int, processes: int, links: dict[int, socket.socket], timeout: float):
        """Watches connections that are there already (`listen` and `connect` make them).

        Args:
          process: the number of this one.
          processes: how many there are.
          links: process 0's to every other one, another one's to process 0.
          timeout: seconds of silence after which another one is taken for dead.
        """
        self._process, self._processes, self._timeout = process, processes, timeout
        self._links = links
        self._heard = dict.fromkeys(links, time.monotonic())
        self._rest = dict.fromkeys(links, b"")
        self._done: set[int] = set()
        self._names = {number: f"process {number} of {processes}" for number in range(processes)}
        self._ending = threading.Event()  # this process ends by itself: the others' ends are no news
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._send("here", host=socket.gethostname())
        self._thread.start()

    def fail(self, error: BaseException) -> None:
        """To be called when this process is about to end with an error of its own: tells the others.

        An error may also be the echo of another's death (a collective that broke): waits for that to be known, in which
        case this process ends here.
        """
        if isinstance(error, Exception) and not isinstance(error, InputError):
            time.sleep(2 * BEAT)
        self._ending.set()
        line = (" ".join(str(error).split()) or type(error).__name__)[:500]
        self._part("stop", number=self._process, why=f"stopped: {line}")

    def finish(self) -> None:
        """This process has done its work; from here on the others need not hear of it."""
        self._send("done")

    def close(self) -> None:
        """Ends the watch."""
        self._ending.set()
        for link in self._links.values():
            link.close()

    def _send(self, kind: str, **fields: Any) -> None:
        message = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        with self._lock:
            for link in self._links.values():
                with contextlib.suppress(OSError):  # the reader sees that it is gone
                    link.sendall(message)

    def _part(self, kind: str, **fields: Any) -> None:
        """Sends a last message and stays until it has been read.

        The kernel answers what arrives after the end, or lies unread at it, with a reset, and a reset takes the last
        message out of the receiver's hands: it would only see that this process died. So what comes in is read until
        the other side closes, too.
        """
        self._send(kind, **fields)
        end = time.monotonic() + PARTING
        for link in self._links.values():
            with contextlib.suppress(OSError):  # gone already, or silent to the end
                link.shutdown(socket.SHUT_WR)
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.settimeout(max(end - time.monotonic(), 0.01))
                while link.recv(65536):
                    link.settimeout(max(end - time.monotonic(), 0.01))

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, link in self._links.items():
                selector.register(link, selectors.EVENT_READ, number)
            beat = time.monotonic()
            while not self._ending.is_set() and selector.get_map():
                for key, _ in selector.select(timeout=BEAT):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                if time.monotonic() - beat >= BEAT:
                    beat = time.monotonic()
                    self._send("alive")
                    self._look_for_silence(beat)

    def _look_for_silence(self, now: float) -> None:
        for number, heard in self._heard.items():
            if number not in self._done and now - heard > self._timeout:
                self._stop(number, f"has not been heard of for {now - heard:.0f} s")

    def _read(self, number: int) -> bool:
        """Takes what a link has; False at its end."""
        try:
            data = self._links[number].recv(65536)
        except OSError:
            data = b""
        if not data:
            if number not in self._done:
                self._stop(number, "died")
            return False
        self._heard[number] = time.monotonic()
        *lines, self._rest[number] = (self._rest[number] + data).split(b"\n")
        for message in map(json.loads, lines):
            if message["kind"] == "here":
                self._names[number] += f" ({message['host']})"
            elif message["kind"] == "done":
                self._done.add(number)
            elif message["kind"] == "stop":
                self._names[message["number"]] = message.get("name", self._names[message["number"]])
                self._stop(message["number"], message["why"])
        return True

    def _stop(self, number: int, why: str) -> None:
        """Ends this process because process `number` has ended, and lets those know that are linked to this one."""
        if self._ending.is_set():
            return
        self._ending.set()
        name = self._names[number]
        line = f"error: {name} {why}; process {self._process} stops too. Run the same command on all hosts to go on\n"
        os.write(2, line.encode())
        if self._process == 0:
            self._part("stop", number=number, name=name, why=why)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(1)


def listen(processes: int, token: int, server: socket.socket, timeout: float) -> dict[int, socket.socket]:
    """Process 0's links to all others, made when they call.

    Raises:
      TimeoutError: not all of them called in time.
    """
    links: dict[int, socket.socket] = {}
    end = time.monotonic() + timeout
    with server:
        while len(links) < processes - 1:
            server.settimeout(max(end - time.monotonic(), 0.01))
            link, _ = server.accept()
            link.settimeout(timeout)
            greeting = link.recv(16, socket.MSG_WAITALL)
            number = int.from_bytes(greeting[8:], "big")
            if len(greeting) == 16 and int.from_bytes(greeting[:8], "big") == token and 0 < number < processes:
                links[number] = link
            else:
                link.close()  # a stranger
    return links


def connect(process: int, token: int, addresses: Sequence[tuple[str, int]], timeout: float) -> dict[int, socket.socket]:
    """Another process's link to process 0, at the first address that answers.

    Raises:
      OSError: none does.
    """
    for place, address in enumerate(addresses):
        try:
            link = socket.create_connection(address, timeout / len(addresses))
            break
        except OSError:
            if place == len(addresses) - 1:
                raise
    link.settimeout(timeout)
    link.sendall(token.to_bytes(8, "big") + process.to_bytes(8, "big"))
    return {0: link}
