"""Hosts, tasks, results and events of one server."""

from __future__ import annotations

import random
import string
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from . import source as sources
from .http import AnthillError, ApiError, Http, Unreachable, query, quoted

# States in which a host may still do something for a task by itself.
_AWAITED = frozenset(("held", "queued", "sent", "answered", "working"))

# Interval between two requests for a task: it grows by a tenth each time, and is at least a
# multiple of the time that the last request took, so that a large task is no burden.
_PAUSE_S = 0.2
_PAUSE_S_MAX = 1.0
_PAUSE_REQUESTS = 4.0
# Longest outage of the server during a wait.
_AWAY_S_MAX = 60.0

_KEYS_MADE_MAX = 3
_PAGE = 1000


class TaskFailed(AnthillError):
    """A task did not end `done` on every host. `status` has the hosts."""

    def __init__(self, status: TaskStatus) -> None:
        super().__init__(f"{status.key}: {status}")
        self.status = status


@dataclass(frozen=True)
class Host:
    """A host as the server knows it. `raw` has every member of its JSON document."""

    id: str
    ip: Optional[str]
    state: str
    reason: Optional[str]
    since: Optional[datetime]
    last_seen: Optional[datetime]
    hostname: Optional[str]
    mac: Optional[str]
    ipv4: List[str]
    labels: Dict[str, str]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def online(self) -> bool:
        """True while the host is online."""
        return self.state == "online"

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> Host:
        return cls(
            id=raw["id"],
            ip=raw["ip"],
            state=raw["state"],
            reason=raw["reason"],
            since=_time(raw["since"]),
            last_seen=_time(raw["last_seen"]),
            hostname=raw["hostname"],
            mac=raw["mac"],
            ipv4=list(raw["ipv4"]),
            labels=dict(raw.get("labels") or {}),
            raw=raw,
        )


@dataclass(frozen=True)
class Result:
    """End of one command on one host.

    `exit` and `output` are None if the host reports none, as the older clients do. `output` has at
    most the first 4 KiB; `Task.output` returns all of it.
    """

    host: str
    command: str
    exit: Optional[int]
    seconds: Optional[float]
    output: Optional[str]
    size: Optional[int]
    sha256: Optional[str]
    truncated: bool


@dataclass(frozen=True)
class HostTask:
    """One host in a task: its state, its commands, and their results by command."""

    state: str
    working: Optional[str]
    complete: List[str]
    oncall: List[str]
    results: Dict[str, Result]

    @property
    def ended(self) -> bool:
        """True if nothing more is awaited of the host."""
        return self.state not in _AWAITED


@dataclass(frozen=True)
class TaskStatus:
    """A task and its hosts at one moment. `raw` has the members of its JSON document."""

    key: str
    created: Optional[datetime]
    commands: List[Tuple[str, float]]
    hosts: Dict[str, HostTask]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """True if nothing more is awaited of any host."""
        return all(host.ended for host in self.hosts.values())

    @property
    def ok(self) -> bool:
        """True if every host is `done`."""
        return bool(self.hosts) and all(host.state == "done" for host in self.hosts.values())

    def counts(self) -> Dict[str, int]:
        """Returns the number of hosts in each state."""
        counts: Dict[str, int] = {}
        for host in self.hosts.values():
            counts[host.state] = counts.get(host.state, 0) + 1
        return counts

    def check(self) -> TaskStatus:
        """Returns itself.

        Raises:
            TaskFailed: A host is not `done`.
        """
        if not self.ok:
            raise TaskFailed(self)
        return self

    def __str__(self) -> str:
        return ", ".join(f"{count} {state}" for state, count in self.counts().items()) or "no hosts"


class Task:
    """A task that was sent. `sent` has the state of each host just after that."""

    def __init__(
        self, client: Client, key: str, sent: Mapping[str, str], unknown: Sequence[str]
    ) -> None:
        self._client = client
        self.key = key
        self.sent = dict(sent)
        # Named hosts that the server has never seen.
        self.unknown = list(unknown)

    def __repr__(self) -> str:
        return f"Task({self.key!r}, {len(self.sent)} hosts)"

    def status(self) -> TaskStatus:
        """Returns the task as it is now."""
        return self._client.task(self.key)

    def output(self, host: str, command: str) -> bytes:
        """Returns the whole output of a command."""
        path = f"/v1/tasks/{quoted(self.key)}/hosts/{quoted(host)}/output"
        return self._client._http.bytes("GET", path + query(command=command))

    def changes(self, timeout: Optional[float] = None) -> Iterator[TaskStatus]:
        """Yields the task after each change, until every host has ended or `timeout` seconds pass.

        An outage of the server of up to a minute is waited out.

        Raises:
            Unreachable: The server is away for longer.
            ApiError: The task is not known.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _PAUSE_S
        away: Optional[float] = None
        last: Optional[TaskStatus] = None
        while True:
            begun = time.monotonic()
            try:
                status = self.status()
                away = None
                if last is None or status.hosts != last.hosts or status.raw != last.raw:
                    last = status
                    yield status
                if status.ended:
                    return
            except (Unreachable, ApiError) as error:
                if isinstance(error, ApiError) and error.status < 500:
                    raise
                away = begun if away is None else away
                if begun - away > _AWAY_S_MAX:
                    raise
            now = time.monotonic()
            wait = max(pause, (now - begun) * _PAUSE_REQUESTS)
            if deadline is not None:
                if now >= deadline:
                    return
                wait = min(wait, deadline - now)
            time.sleep(wait)
            pause = min(pause * 1.1, _PAUSE_S_MAX)

    def results(self, timeout: Optional[float] = None) -> Iterator[Result]:
        """Yields each result once, as it comes, until every host has ended or time is up."""
        seen = set()
        for status in self.changes(timeout):
            for name, host in status.hosts.items():
                for command in dict.fromkeys([*host.complete, *host.results]):
                    if (name, command) not in seen:
                        seen.add((name, command))
                        yield host.results.get(command) or _without_output(name, command)

    def wait(self, timeout: Optional[float] = None) -> TaskStatus:
        """Waits until every host has ended or `timeout` seconds have passed.

        Returns:
            The task. `ended` is false if time was up; `check()` raises if a host is not `done`.
        """
        last: Optional[TaskStatus] = None
        for last in self.changes(timeout):
            pass
        return self.status() if last is None else last

    def cancel(self) -> Any:
        """Cancels the task where it has not begun. Returns the server's answer."""
        return self._act("cancel")

    def pause(self) -> Any:
        """Pauses a rollout before its next wave. Returns the server's answer."""
        return self._act("pause")

    def resume(self) -> Any:
        """Continues a paused rollout. Returns the server's answer."""
        return self._act("resume")

    def _act(self, action: str) -> Any:
        return self._client._http.json("POST", f"/v1/tasks/{quoted(self.key)}/{action}", {})


class Client:
    """Client of the server at `url`, else in `ANTHILL_API`, else at http://127.0.0.1:11480.

    `token_file` holds the token (else `ANTHILL_TOKEN_FILE`), `ca` a PEM file that an `https://`
    address is checked against, `timeout` the seconds that a request may take. Nothing is sent
    before the first call. A client may be shared by threads.

    Raises:
        ValueError: An address or a token that cannot be used.
        OSError: A token file that cannot be read.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token_file: Optional[str] = None,
        ca: Optional[str] = None,
        timeout: float = 15.0,
    ) -> None:
        self._http = Http(url, token_file, ca, timeout)

    def __repr__(self) -> str:
        return f"Client({self._http.url!r})"

    def _pages(self, path: str, **parameters: Optional[str]) -> Iterator[Dict[str, Any]]:
        """Yields the pages of a list, each as its JSON document."""
        cursor = None
        while True:
            asked = query(**parameters, limit=_PAGE, cursor=cursor)
            page: Dict[str, Any] = self._http.json("GET", path + asked)
            # The page is the caller's from here on.
            cursor = page["next"]
            yield page
            if cursor is None:
                return

    def health(self) -> Mapping[str, Any]:
        """Returns the answer of `/healthz`."""
        health: Mapping[str, Any] = self._http.json("GET", "/healthz")
        return health

    def hosts(self, target: Optional[str] = None, state: Optional[str] = None) -> List[Host]:
        """Returns the hosts that match `target`, or all, optionally only those in one `state`.

        A target is the text that `anthill hosts` takes, such as `web-[1-9],!web-3`.
        """
        pages = self._pages("/v1/hosts", target=target, state=state)
        return [Host._of(host) for page in pages for host in page["hosts"]]

    def host(self, name: str) -> Host:
        """Returns one host.

        Raises:
            ApiError: The host is not known (`status` 404).
        """
        return Host._of(self._http.json("GET", f"/v1/hosts/{quoted(name)}"))

    def dispatch(
        self,
        task: Union[str, sources.DispatchSource, type, None],
        commands: Union[Mapping[str, float], Sequence[str], str, None] = None,
        *,
        hosts: Optional[Sequence[str]] = None,
        target: Optional[str] = None,
        queue: bool = False,
        batch: Optional[str] = None,
        canary: Optional[int] = None,
        max_fail: Union[int, str, None] = None,
        pause_s: Union[float, str, None] = None,
        wave_timeout_s: Optional[float] = None,
        offline: Optional[str] = None,
        expect: Optional[int] = None,
    ) -> Task:
        """Sends a task and returns it.

        Args:
            task: A key, which is used once; None makes a new one; or a source, an object or class
                with `ipList()`, `disCommands()` and `key()`.
            commands: Commands with their priorities, or a list in the order of execution.
            hosts: Names of hosts. Without `hosts` and `target`: all hosts that are online.
            target: Hosts as `anthill hosts` takes them.
            queue: Offline hosts receive the task when they come online.
            batch, canary, max_fail, pause_s, wave_timeout_s, offline, expect: The rollout, as in
                `POST /v1/tasks`.

        Raises:
            SourceError: Something of the task is wrong; the text names it.
            ApiError: The server refuses the task; `status` 409: the key was used before.
            Unreachable: No answer. The task may have been sent: look at `task(key)`.
        """
        if sources.is_source(task):
            if commands is not None or hosts is not None:
                raise ValueError("a source gives commands and hosts itself")
            read = sources.read(task)
        else:
            checked = sources.commands_of(commands)
            key = "" if task is None else sources.key_of(task)
            read = sources.Dispatch(key, checked, sources.hosts_of(hosts))
        options = {
            "target": target,
            "batch": batch,
            "canary": canary,
            "max_fail": max_fail,
            "pause_s": pause_s,
            "wave_timeout_s": wave_timeout_s,
            "offline": offline,
            "expect": expect,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return self._send(read, queue, given)

    def _send(
        self, task: sources.Dispatch, queue: bool = False, options: Mapping[str, Any] = {}
    ) -> Task:
        body = {"commands": task.commands, "queue": queue, **options}
        if task.hosts is not None:
            body["hosts"] = task.hosts
        made = "" if task.key else self.health()["key_prefix"]
        for attempt in range(1, _KEYS_MADE_MAX + 1):
            body["key"] = task.key or _new_key(made)
            try:
                answer = self._http.json("POST", "/v1/tasks", body)
            except ApiError as error:
                if task.key or error.status != 409 or attempt == _KEYS_MADE_MAX:
                    raise
                continue
            return Task(self, answer["key"], answer["hosts"], answer.get("unknown") or [])
        raise AssertionError("the last attempt returns or raises")

    def tasks(self) -> List[Mapping[str, Any]]:
        """Returns open and recently ended tasks, the newest first."""
        return [task for page in self._pages("/v1/tasks") for task in page["tasks"]]

    def task(self, key: str) -> TaskStatus:
        """Returns a stored task with the state and the results of each host.

        Raises:
            ApiError: The task is not known (`status` 404).
        """
        raw: Dict[str, Any] = {}
        hosts: Dict[str, HostTask] = {}
        for page in self._pages(f"/v1/tasks/{quoted(key)}"):
            for name, host in page.pop("hosts").items():
                hosts[name] = _host_task(name, host)
            del page["next"]
            raw.update(page)
        commands = [(command, float(priority)) for command, priority in raw["commands"]]
        return TaskStatus(raw["key"], _time(raw["created"]), commands, hosts, raw)

    def recent_events(self) -> List[Mapping[str, Any]]:
        """Returns the last events, the oldest first."""
        events: List[Mapping[str, Any]] = self._http.json("GET", "/v1/events/recent")["events"]
        return events

    def events(self, *names: str) -> Iterator[Mapping[str, Any]]:
        """Yields events as they happen, for ever; with `names` only those.

        Each is a dict with `event`, `host`, `at` (unix milliseconds), `node`, `seq` and what
        belongs to its kind. When the stream ends it is asked for again; events in between are
        missing.

        Raises:
            Unreachable: There is no server at the first attempt.
            ApiError: The server refuses the stream.
        """
        connected = False
        while True:
            try:
                for event in self._http.events():
                    connected = True
                    if not names or event["event"] in names:
                        yield event
                connected = True
            except (Unreachable, ApiError) as error:
                busy = isinstance(error, ApiError) and error.status >= 500
                if not connected or not (busy or isinstance(error, Unreachable)):
                    raise
            time.sleep(1.0)


def _host_task(name: str, raw: Mapping[str, Any]) -> HostTask:
    return HostTask(
        state=raw["state"],
        working=raw["working"],
        complete=list(raw["complete"]),
        oncall=list(raw["oncall"]),
        results={
            command: Result(
                host=name,
                command=command,
                exit=result["exit"],
                seconds=result["seconds"],
                output=result["output"],
                size=result["size"],
                sha256=result["sha256"],
                truncated=result["truncated"],
            )
            for command, result in raw["results"].items()
        },
    )


def _without_output(host: str, command: str) -> Result:
    return Result(host, command, None, None, None, None, None, False)


def _new_key(prefix: str) -> str:
    now = datetime.now(timezone.utc).strftime("%y%m%d-%H%M%S")
    letters = "".join(random.choices(string.ascii_lowercase, k=4))
    return f"{prefix}{now}-{letters}"


def _time(text: Optional[str]) -> Optional[datetime]:
    # Python before 3.11 does not read the Z.
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
