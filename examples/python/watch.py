"""Prints hosts as they come and go, for a number of events or for ever.

    python3 watch.py [COUNT]
"""

import itertools
import sys
from datetime import datetime

from anthill import Client


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    client = Client()
    online = client.hosts(state="online")
    print(f"{len(online)} online", flush=True)
    for event in itertools.islice(client.events("online", "offline"), count):
        at = datetime.fromtimestamp(event["at"] / 1000)
        print(f"{at:%H:%M:%S} {event['host']} {event['event']}", flush=True)


if __name__ == "__main__":
    main()
