"""Client of an Anthill server, for scripts and notebooks.

    from anthill import Client

    client = Client("http://127.0.0.1:11480")
    task = client.dispatch("AC131", {"uptime": 2, "df -h /": 1}, hosts=["web-1", "web-2"])
    for result in task.results():
        print(result.host, result.command, result.exit, result.output)
    task.wait().check()

`Client` documents every call. `anthill.compat` has the call mode of the older Python server.
"""

from .client import Client, Host, HostTask, Result, Task, TaskFailed, TaskStatus
from .http import AnthillError, ApiError, Unreachable
from .source import DispatchSource, SourceError

__version__ = "0.1.0"

__all__ = [
    "AnthillError",
    "ApiError",
    "Client",
    "DispatchSource",
    "Host",
    "HostTask",
    "Result",
    "SourceError",
    "Task",
    "TaskFailed",
    "TaskStatus",
    "Unreachable",
]
