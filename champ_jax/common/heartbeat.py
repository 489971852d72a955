"""A process of a run that ends takes the others with it, at once and with a line that says which one and why.

JAX's own heartbeats notice a death only after their timeout, in the middle of a collective, and end the process with a
stack trace. Here every process holds a TCP connection to process 0. The kernel closes it when a process dies, however
it dies; a process that is stopped, or whose host or network fails, sends no more heartbeats.
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

HEARTBEAT_SECONDS = 5.0  # time between two heartbeats
FAREWELL_SECONDS = 2.0  # time that the others have to read why this process ends
GREETING_SECONDS = 5.0  # time within which a connection must show that it is one of the run's
_GREETING_BYTES = 16  # the run's token and the number of the process, 8 bytes each


class PeerMonitor:
    """Watches the other processes from a thread of its own until `close`.

    When another process dies, stops with an error or sends no heartbeats, this process prints one line on stderr and
    exits with 1.
    """

    def __init__(self, process: int, processes: int, links: dict[int, socket.socket], timeout: float):
        """Starts watching over connections made by `accept_peers` and `connect_to_first`.

        Args:
          process: the number of this process.
          processes: the number of processes.
          links: process 0's connections to all others; another one's connection to process 0.
          timeout: seconds without a heartbeat after which a process counts as dead.
        """
        self._process, self._timeout = process, timeout
        self._links = links
        self._last_heard = dict.fromkeys(links, time.monotonic())
        self._unread = dict.fromkeys(links, b"")
        self._done: set[int] = set()
        self._silent_at_first: list[int] = []  # the processes that process 0 does not hear
        self._names = {number: f"process {number} of {processes}" for number in range(processes)}
        self._ending = threading.Event()  # this process ends by itself: the ends of others no longer matter
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="peer-monitor", daemon=True)
        self._send("here", host=socket.gethostname())
        self._thread.start()

    def stop_others(self, error: BaseException) -> None:
        """Notifies the others that this process ends because of an error.

        The error may itself be the effect of another process's end: a collective that broke. Then the monitor finds
        that out in the meantime and ends this process here.
        """
        if isinstance(error, Exception) and not isinstance(error, InputError):
            first = time.monotonic() + 2 * HEARTBEAT_SECONDS
            last = first + self._timeout  # by then a silent process counts as dead, or was heard again
            while time.monotonic() < first or (self._find_silent(2 * HEARTBEAT_SECONDS) and time.monotonic() < last):
                time.sleep(0.1)
        self._ending.set()
        line = (" ".join(str(error).split()) or type(error).__name__)[:500]
        self._send_last("stop", number=self._process, why=f"stopped: {line}")

    def mark_done(self) -> None:
        """This process has done its work; from now on its end does not matter to the others."""
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

    def _send_last(self, kind: str, **fields: Any) -> None:
        """Sends a last message and stays until it has been read.

        The kernel answers what arrives after the end, or is unread at it, with a reset, and a reset takes the last
        message out of the receiver's hands: it would only see that this process died. So what comes in is read until
        the other side closes, too.
        """
        self._send(kind, **fields)
        end = time.monotonic() + FAREWELL_SECONDS
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
            last_sent = time.monotonic()
            while not self._ending.is_set() and selector.get_map():
                for key, _ in selector.select(timeout=HEARTBEAT_SECONDS):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                now = time.monotonic()
                if now - last_sent >= HEARTBEAT_SECONDS:
                    was_stopped = now - last_sent > 3 * HEARTBEAT_SECONDS  # itself: what came meanwhile is read first
                    last_sent = now
                    self._send("alive", silent=self._find_silent(2 * HEARTBEAT_SECONDS))
                    for number in [] if was_stopped else self._find_unheard(self._timeout):
                        seconds = now - self._last_heard[number]
                        self._stop(number, f"sent no heartbeat for {seconds:.0f} s")

    def _find_unheard(self, seconds: float) -> list[int]:
        """The processes with a connection to this one that have sent nothing for so long, and are not done."""
        end = time.monotonic() - seconds
        return [number for number, heard in self._last_heard.items() if number not in self._done and heard < end]

    def _find_silent(self, seconds: float) -> list[int]:
        """The same of all processes, as far as process 0 has reported it."""
        return sorted({*self._find_unheard(seconds), *self._silent_at_first} - {self._process})

    def _read(self, number: int) -> bool:
        """Takes what a connection has; False at its end."""
        try:
            data = self._links[number].recv(65536)
        except OSError:
            data = b""
        if not data:
            if number not in self._done:
                self._stop(number, "died")
            return False
        self._last_heard[number] = time.monotonic()
        *lines, self._unread[number] = (self._unread[number] + data).split(b"\n")
        for message in map(json.loads, lines):
            if message["kind"] == "here":
                self._names[number] += f" ({message['host']})"
            elif message["kind"] == "alive" and number == 0:
                self._silent_at_first = message.get("silent", [])
            elif message["kind"] == "done":
                self._done.add(number)
            elif message["kind"] == "stop":
                self._names[message["number"]] = message.get("name", self._names[message["number"]])
                self._stop(message["number"], message["why"])
        return True

    def _stop(self, number: int, why: str) -> None:
        """Ends this process because process `number` has ended, and notifies those that are connected to this one."""
        if self._ending.is_set():
            return
        self._ending.set()
        name = self._names[number]
        line = f"error: {name} {why}; process {self._process} stops too. Run the same command on all hosts to resume\n"
        os.write(2, line.encode())
        if self._process == 0:
            self._send_last("stop", number=number, name=name, why=why)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(1)


def accept_peers(processes: int, token: int, server: socket.socket, timeout: float) -> dict[int, socket.socket]:
    """Process 0's connections to all others, which it accepts and then closes `server`.

    A connection that does not present the run's token within GREETING_SECONDS is dropped and holds up nobody.

    Raises:
      TimeoutError: not all of them came in time.
    """
    links: dict[int, socket.socket] = {}
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector, server:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)
        greetings: dict[socket.socket, tuple[float, bytes]] = {}  # {connection: (its deadline, what it has sent)}

        def drop(link: socket.socket) -> None:
            selector.unregister(link)
            del greetings[link]
            link.close()

        while len(links) < processes - 1:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(links) + 1} of {processes} processes came within {timeout:.0f} s")
            for key, _ in selector.select(timeout=0.5):
                if key.fileobj is server:
                    with contextlib.suppress(OSError):  # it is gone already
                        link, _ = server.accept()
                        link.setblocking(False)
                        selector.register(link, selectors.EVENT_READ, data=link)
                        greetings[link] = (time.monotonic() + GREETING_SECONDS, b"")
                    continue
                link = key.data
                deadline, greeting = greetings[link]
                data = b""
                with contextlib.suppress(OSError):
                    data = link.recv(_GREETING_BYTES - len(greeting))
                greeting += data
                greetings[link] = (deadline, greeting)
                if not data:
                    drop(link)
                elif len(greeting) == _GREETING_BYTES:
                    number = int.from_bytes(greeting[8:], "big")
                    if int.from_bytes(greeting[:8], "big") != token or not 0 < number < processes or number in links:
                        drop(link)
                        continue
                    selector.unregister(link)
                    del greetings[link]
                    link.settimeout(timeout)
                    links[number] = link
            for link in [link for link, (deadline, _) in greetings.items() if time.monotonic() > deadline]:
                drop(link)
        for link in list(greetings):
            drop(link)
    return links


def connect_to_first(
    process: int, token: int, addresses: Sequence[tuple[str, int]], timeout: float
) -> dict[int, socket.socket]:
    """Another process's connection to process 0, at the first address that answers.

    Raises:
      OSError: none does.
    """
    for number, address in enumerate(addresses):
        try:
            link = socket.create_connection(address, timeout / len(addresses))
            break
        except OSError:
            if number == len(addresses) - 1:
                raise
    link.settimeout(timeout)
    link.sendall(token.to_bytes(8, "big") + process.to_bytes(8, "big"))
    return {0: link}
