"""The call mode of the older Python server: a class gives hosts, commands and key of a task."""

from __future__ import annotations

import inspect
import math
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence

from .http import AnthillError

_KEY_CHARS_MAX = 64


class SourceError(AnthillError, ValueError):
    """A dispatch source is wrong. The text names its method."""


class DispatchSource(Protocol):
    """Methods of a dispatch source. Each of them may lack `self`, as in a bare class."""

    def ipList(self) -> Optional[Sequence[str]]:
        """Returns the hosts; None means all that are online."""

    def disCommands(self) -> Mapping[str, float]:
        """Returns each command with its priority. The highest priority runs first."""

    def key(self) -> str:
        """Returns the key of the task, which is used once."""


METHODS = ("ipList", "disCommands", "key")


class Dispatch:
    """Checked hosts, commands and key of a source."""

    def __init__(
        self, key: str, commands: Dict[str, float], hosts: Optional[List[str]]
    ) -> None:
        self.key = key
        self.commands = commands
        self.hosts = hosts


def is_source(value: object) -> bool:
    """Returns whether `value` has a method of a dispatch source."""
    return not isinstance(value, str) and any(hasattr(value, name) for name in METHODS)


def read(source: object, empty_is_all: bool = False) -> Dispatch:
    """Calls the three methods of `source` and checks what they return.

    With `empty_is_all`, an empty list of hosts means all that are online.

    Raises:
        SourceError: A method is missing, fails, or returns something else.
    """
    name = source.__name__ if isinstance(source, type) else type(source).__name__
    for method in METHODS:
        if not callable(getattr(source, method, None)):
            raise SourceError(
                f"{name}.{method} must be a method; a source has ipList(), disCommands() and key()"
            )
    owner = _Owner(source, name)
    return Dispatch(
        key_of(owner.call("key"), f"{name}.key()"),
        commands_of(owner.call("disCommands"), f"{name}.disCommands()"),
        hosts_of(owner.call("ipList"), f"{name}.ipList()", empty_is_all),
    )


class _Owner:
    """Calls the methods of a source, with or without `self`."""

    def __init__(self, source: object, name: str) -> None:
        self._source = source
        self._name = name

    def call(self, method: str) -> Any:
        place = f"{self._name}.{method}()"
        static = inspect.getattr_static(self._source, method, None)
        function = getattr(self._source, method)
        if inspect.isfunction(static):
            # Seen through an instance it would already be bound to `self`.
            function = static
            arguments = self._arguments(static, place)
        else:
            arguments = []
        try:
            return function(*arguments)
        except Exception as error:
            raise SourceError(f"{place} raised {type(error).__name__}: {error}") from error

    def _arguments(self, function: Any, place: str) -> List[object]:
        signature = inspect.signature(function)
        if _takes(signature):
            return []
        if not _takes(signature, None):
            raise SourceError(f"{place} must take no argument, or self alone; it takes {signature}")
        if not isinstance(self._source, type):
            return [self._source]
        try:
            self._source = self._source()
        except Exception as error:
            raise SourceError(
                f"{place} takes self, and {self._name}() raised {type(error).__name__}: {error}"
            ) from error
        return [self._source]


def _takes(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def key_of(value: object, place: str = "key") -> str:
    """Checks a task key. The server also checks its prefix."""
    if not isinstance(value, str):
        raise SourceError(f"{place} must be a str such as 'AC131'; it is {_shown(value)}")
    if "_" in value:
        instead = value.replace("_", "-")
        raise SourceError(
            f"{place} is {value!r}: a key has no '_', which separates the names of keys in Redis; "
            f"write {instead!r}"
        )
    good = value.isascii() and all(char.isalnum() or char in ".-" for char in value)
    if not good or not 1 <= len(value) <= _KEY_CHARS_MAX:
        raise SourceError(
            f"{place} is {_shown(value)}: a key has 1 to {_KEY_CHARS_MAX} of A-Z a-z 0-9 . -"
        )
    return value


def commands_of(value: object, place: str = "commands") -> Dict[str, float]:
    """Checks commands: a map to priorities, or one command or a list, which run in that order."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)):
        count = len(value)
        value = {command: count - index for index, command in enumerate(_unique(value, place))}
    if not isinstance(value, Mapping):
        raise SourceError(
            f"{place} must be a dict of commands to priorities; it is {_shown(value)}"
        )
    if not value:
        raise SourceError(f"{place} must have at least one command")
    for command, priority in value.items():
        if not isinstance(command, str) or not command:
            raise SourceError(f"{place} has the command {_shown(command)}; a command is a str")
        is_number = isinstance(priority, (int, float)) and not isinstance(priority, bool)
        if not is_number or not math.isfinite(priority):
            raise SourceError(
                f"{place} has the priority {_shown(priority)} for {command!r}; "
                "a priority is a finite number"
            )
    return dict(value)


def _unique(commands: Sequence[object], place: str) -> Sequence[Any]:
    seen: List[object] = []
    for command in commands:
        if command in seen:
            raise SourceError(f"{place} has {_shown(command)} twice; a task runs a command once")
        seen.append(command)
    return seen


def hosts_of(
    value: object, place: str = "hosts", empty_is_all: bool = False
) -> Optional[List[str]]:
    """Checks hosts: None, or a list of names."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise SourceError(f"{place} must be a list of hosts or None; it is {_shown(value)}")
    for host in value:
        if not isinstance(host, str) or not host:
            raise SourceError(f"{place} has the host {_shown(host)}; a host is a str")
    if not value:
        if empty_is_all:
            return None
        raise SourceError(f"{place} is empty; None means all hosts that are online")
    return sorted(value) if isinstance(value, (set, frozenset)) else list(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
