"""Sends a task to some hosts, or to all that are online, and prints each result as it comes.

    python3 dispatch.py uptime web-1 web-2
"""

import sys

from anthill import Client


def main() -> int:
    command, hosts = sys.argv[1], sys.argv[2:]
    task = Client().dispatch(None, command, hosts=hosts or None)
    for result in task.results():
        print(f"{result.host}: exit {result.exit}: {(result.output or '').rstrip()}")
    status = task.wait()
    print(f"{task.key}: {status}")
    return 0 if status.ok else 1


if __name__ == "__main__":
    sys.exit(main())
