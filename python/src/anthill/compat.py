"""The call mode of the older Python server.

    from anthill.compat import udpControl

    class Info:
        def ipList():
            return ["10.0.0.7", "10.0.0.8"]      # [] means everyone who is online
        def disCommands():
            return {"uptime": 2, "df -h /": 1}   # the highest priority runs first
        def key():
            return "AC131"                       # used once

    udpControl(Info).start()

The server is a running `anthill`, at `ANTHILL_API` or http://127.0.0.1:11480.

A run that the server refuses, such as one with a key that was used before, sends nothing and prints
the reason. The program then ends with status 1, unless it has read `error` of that run.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import Dict, List, Optional, TextIO

from . import source as sources
from .client import Client, Result, Task, TaskStatus
from .http import AnthillError

__all__ = ["udpControl"]


class udpControl(threading.Thread):
    """Thread that sends the task of `Info` and prints the state and the results of each host.

    `Info` is a class or an instance with `ipList()`, `disCommands()` and `key()`, each with or
    without `self`. It is read at once, and again at each further `start()`, which is allowed when
    the last run has ended. The thread ends when every host has ended; `task` and `error` have the
    outcome.

    Raises:
        SourceError: Something of `Info` is wrong; the text names its method.
    """

    def __init__(self, Info: object, client: Optional[Client] = None) -> None:
        self._source = Info
        self._client = client or Client()
        self._prepare()

    def _prepare(self) -> None:
        self._read: Optional[sources.Dispatch] = sources.read(self._source, empty_is_all=True)
        self.task: Optional[Task] = None
        self.status: Optional[TaskStatus] = None
        self._error: Optional[AnthillError] = None
        # A finished thread cannot be started again, but made anew in place.
        super().__init__(name=f"anthill {self._read.key}", daemon=False)

    @property
    def error(self) -> Optional[AnthillError]:
        """Reason why the last run sent nothing or was not followed to its end; None if it was."""
        if self in _failed:
            _failed.remove(self)
        return self._error

    def start(self) -> None:
        """Starts the thread. When an earlier run has ended, reads the source again first."""
        if self.ident is not None and not self.is_alive():
            self._prepare()
        super().start()

    def run(self) -> None:
        """Sends the task, and prints what becomes of it."""
        read = self._read
        assert read is not None
        try:
            self.task = self._client._send(read)
            self._follow(self.task)
        except AnthillError as error:
            self._error = error
            _failed.append(self)
            sent = "nothing was sent" if self.task is None else "sent, and not followed to its end"
            _print(f"{read.key}: {error} ({sent})", sys.stderr)

    def _follow(self, task: Task) -> None:
        states: Dict[str, str] = {}
        for host, state in task.sent.items():
            states[host] = state
            _print(f"{host}: {state}")
        seen = set()
        for status in task.changes():
            self.status = status
            for name, now in status.hosts.items():
                for command in dict.fromkeys([*now.complete, *now.results]):
                    if (name, command) not in seen:
                        seen.add((name, command))
                        _print(_line(name, command, now.results.get(command)))
                if states.get(name) != now.state:
                    states[name] = now.state
                    _print(f"{name}: {now.state}")
        if self.status is not None:
            _print(f"{task.key}: {self.status}")


# Threads whose last run has failed, while the program has not looked at the reason.
_failed: List[udpControl] = []


def _end() -> None:
    """Ends the program with status 1 if a run has failed that it has not looked at."""
    if _failed:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(1)


# Called when all threads have ended, which are not daemons. Nothing else changes the status then.
atexit.register(_end)


def _line(host: str, command: str, result: Optional[Result]) -> str:
    command = _printable(command)
    if result is None:
        return f"{host}: {command}: done"
    lines = [f"{host}: {command}: exit {result.exit}, {result.seconds:.1f} s"]
    lines += ["    " + _printable(line) for line in (result.output or "").splitlines()]
    return "\n".join(lines)


def _printable(line: str) -> str:
    """Escapes control characters and directions of text, which a terminal would obey."""
    return "".join(
        char if char.isprintable() or char == "\t" else f"\\u{{{ord(char):x}}}" for char in line
    )


def _print(text: str, file: Optional[TextIO] = None) -> None:
    # One write for all lines: several threads may print.
    out = file or sys.stdout
    out.write(text + "\n")
    out.flush()
