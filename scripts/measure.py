"""A server of our own with a Redis of its own, on one core, and the load generator on another: for `ratios` and
`curves`."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release" / "anthill"
SERVER_CPU, CLIENT_CPU = 0, 1


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(words, cpu, **how):
    """A process on one core."""
    return subprocess.Popen(words, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}), **how)


class Redis:
    """A Redis of our own, behind a socket in a directory, and what it is asked."""

    def __init__(self, directory, gives_way):
        self.path = str(Path(directory, "redis"))
        words = ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        self.process = start(words, CLIENT_CPU, stdout=subprocess.DEVNULL)
        if gives_way:
            os.sched_setscheduler(self.process.pid, os.SCHED_IDLE, os.sched_param(0))
        deadline = time.monotonic() + 30
        while True:
            try:
                self.stream = socket.socket(socket.AF_UNIX)
                self.stream.connect(self.path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.lines = self.stream.makefile("rb")

    def ask(self, *words):
        parts = [str(word).encode() for word in words]
        text = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.stream.sendall(text)
        return self.answer()

    def answer(self):
        line = self.lines.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.lines.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest.decode()

    def close(self):
        self.stream.close()
        self.process.terminate()
        self.process.wait()


class Server:
    """A server of our own with such settings; `with` ends it. Where times are measured Redis, which shares the
    load generator's core, gives way to it: else its own work would be told as the server's."""

    def __init__(self, program, times=False, **rooms):
        self.program, self.times, self.rooms = program, times, rooms

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory()
        self.redis = Redis(self.home.name, self.times)
        tcp, udp, http = free_port(), free_port(), free_port()
        self.address, self.api = f"127.0.0.1:{tcp}", f"http://127.0.0.1:{http}"
        config = {
            "server": {"tcp": self.address, "udp": f"127.0.0.1:{udp}", "http": f"127.0.0.1:{http}"},
            "store": {"url": f"redis+unix://{self.redis.path}", "spool": f"{self.home.name}/spool"},
            "log": {"file": f"{self.home.name}/log"},
        }
        for room, keys in self.rooms.items():
            config.setdefault(room, {}).update(keys)
        file = Path(self.home.name, "config.json")
        file.write_text(json.dumps(config))
        self.process = start([self.program, "--config", str(file)], SERVER_CPU, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not self.process.stdout.readline():
            sys.exit("the server does not start")
        self.settled()
        return self

    def settled(self):
        """Until the store is written to."""
        deadline = time.monotonic() + 30
        while not self.redis.ask("EXISTS", "anthill:nodes") and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.redis.close()
        self.home.cleanup()

    def bench(self, *words, lost=False):
        """One run of the load generator: its report, or none where all its hosts are to be `lost`."""
        load = words[0]
        words = [self.program, "bench", *words, "--json", "--cpu", CLIENT_CPU, "--server", self.address]
        if load == "dispatch":
            words += ["--api", self.api]
        ran = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        report = json.loads(ran.stdout) if ran.stdout else {"error": ran.stderr.strip()}
        early = report.get("error") or report["ended_early"]
        if lost and early and "connections are lost" in early:
            return None
        if early:
            sys.exit(early)
        return report
