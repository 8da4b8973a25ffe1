"""Several nodes on a Redis or a Redis Cluster of their own, and hosts that move between them: for `nodes` and
`million`. All of it listens on loopback and ends with the script."""

import http.client
import json
import os
import random
import resource
import selectors
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEED = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
    local host = 'f' .. number
    local node = 'other-' .. (number % 8)
    redis.call('HSET', 'anthill:host:' .. host, 'id', host, 'port', 11451, 'hostname', 'machine-' .. number,
               'ip', '10.0.' .. (math.floor(number / 250) % 250) .. '.' .. (number % 250 + 1),
               'mac', '02:00:00:00:00:01', 'since', 1700000000000, 'node', node, 'epoch', 1,
               'labels', '{"dc":"fra' .. (number % 5) .. '"}')
    redis.call('SADD', 'exists', host)
    redis.call('SADD', 'anthill:node:' .. node .. ':hosts', host)
    redis.call('ZADD', 'anthill:seen', 1700000000000, host)
end
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(done, seconds=60):
    begin = time.monotonic()
    while not done():
        if time.monotonic() - begin > seconds:
            raise SystemExit(f"this takes more than {seconds} s: {done.__doc__ or done}")
        time.sleep(0.02)
    return time.monotonic() - begin


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else count
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, most)), hard))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Redis:
    """A Redis, and what it counts."""

    def __init__(self, directory, *words, port=None):
        self.port = port or free_port()
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                 "--dir", directory, *words]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        self.stream = None
        until(self.is_up)

    def is_up(self):
        """Redis answers"""
        try:
            return self.say("PING") == "PONG"
        except OSError:
            return False

    def say(self, *words):
        if not self.stream:
            link = socket.create_connection(("127.0.0.1", self.port), 60)
            self.stream = link.makefile("rwb")
        parts = [str(word).encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(parts))
        self.stream.write(b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.stream.flush()
        return self.answer()

    def answer(self):
        line = self.stream.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if not line or kind == b"-":
            raise OSError(rest.decode() or "Redis has closed the connection")
        return int(rest) if kind == b":" else rest.decode()

    def info(self, *section):
        lines = [line.split(":", 1) for line in self.say("INFO", *section).splitlines() if ":" in line]
        return {name: value.strip() for name, value in lines}

    def counts(self):
        info = self.info()
        return int(info["total_commands_processed"]), int(info["total_net_output_bytes"])

    def calls(self):
        """Number of calls of each command."""
        stats = self.info("commandstats").items()
        return {name.removeprefix("cmdstat_"): int(stat.split(",")[0].split("=")[1]) for name, stat in stats}

    def seed(self, count):
        for begin in range(1, count + 1, 20_000):
            self.say("EVAL", SEED, 0, begin, min(count, begin + 19_999))
        for number in range(8):
            self.say("SADD", "anthill:nodes", f"other-{number}")
            self.say("SET", f"anthill:node:other-{number}", "1")

    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def online(self):
        return self.say("SCARD", "exists")

    def events(self):
        """Fields of all events."""
        found = self.say("XRANGE", "anthill:events", "-", "+")
        return [dict(zip(fields[::2], fields[1::2])) for _, fields in found]

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def memory(self):
        return resident_mib(self.process.pid)

    def processes(self):
        return [self.process]

    def end(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    """A Redis Cluster of three primaries and three replicas."""

    def __init__(self, directory, node_timeout_ms=2_000):
        self.servers = []
        for number in range(6):
            home = Path(directory, f"redis-{number}")
            home.mkdir()
            words = ["--cluster-enabled", "yes", "--cluster-node-timeout", node_timeout_ms]
            # Its bus has the port 10,000 higher.
            port = next(port for port in iter(free_port, None) if port < 55_000)
            self.servers.append(Redis(str(home), *map(str, words), port=port))
        names = [f"127.0.0.1:{server.port}" for server in self.servers]
        words = ["redis-cli", "--cluster", "create", *names, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        until(self.is_whole)

    def is_whole(self):
        """the cluster is whole, and its replicas have their copies"""
        whole = all("cluster_state:ok" in server.say("CLUSTER", "INFO") for server in self.servers)
        roles = [server.say("ROLE") for server in self.servers]
        return whole and all(role[0] == "master" or role[3] == "connected" for role in roles)

    def primaries(self):
        return [server for server in self.living() if server.say("ROLE")[0] == "master"]

    def living(self):
        return [server for server in self.servers if server.process.poll() is None]

    def url(self):
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def ask(self, *words):
        """Asks the primary that has the key."""
        for server in self.primaries():
            try:
                return server.say(*words)
            except OSError as error:
                if not str(error).startswith("MOVED"):
                    raise
        raise SystemExit(f"no primary answers {words[:2]}")

    def online(self):
        return self.ask("SCARD", "exists")

    def events(self):
        found = self.ask("XRANGE", "anthill:events", "-", "+")
        return [dict(zip(fields[::2], fields[1::2])) for _, fields in found]

    def cpu(self):
        return sum(server.cpu() for server in self.living())

    def memory(self):
        return sum(server.memory() for server in self.living())

    def end(self):
        for server in self.living():
            server.end()


class Node:
    """A node."""

    def __init__(self, program, directory, store, name, timeout_s=60):
        self.name, self.program = name, program
        self.home = Path(directory, name)
        self.home.mkdir()
        self.tcp, self.udp, self.http = free_port(), free_port(), free_port()
        config = {
            "server": {"name": name, "tcp": f"127.0.0.1:{self.tcp}", "udp": f"127.0.0.1:{self.udp}",
                       "http": f"127.0.0.1:{self.http}"},
            "heartbeat": {"timeout_s": timeout_s},
            "store": {"url": store.url(), "spool": str(self.home / "spool")},
        }
        (self.home / "config.json").write_text(json.dumps(config))
        self.start()

    def start(self):
        log = open(self.home / "log", "a")
        words = [self.program, "serve", "--config", "config.json"]
        self.process = subprocess.Popen(words, cwd=self.home, stdout=log, stderr=log)
        self.ready_after = until(self.is_ready)

    def ask(self, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        headers = {"Content-Type": "application/json"} if body else {}
        link.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        answer = link.getresponse()
        found = answer.status, answer.read()
        link.close()
        return found

    def is_ready(self):
        """the node is ready"""
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


def frame(message):
    body = json.dumps(message).encode()
    return struct.pack("<i", len(body)) + body


BEAT = frame({"flag": "ADH18", "phase": 1, "ACK": "keepAlive"})
ASKED_BEAT = frame({"flag": "ADH18", "phase": 1, "ACK": "keepAlive", "reply": True})


class Hosts:
    """Hosts that give an id, beat at intervals, and connect to another node when their connection ends.

    `closed` counts the connections that a living node has closed, `late` is the longest delay of a beat, `took`
    has the times of answers to beats, `pushed` the times at which the key `task` came."""

    def __init__(self, nodes, count, jitter_s=2.0, period_s=1.0, asks=False, prefix="host"):
        self.nodes, self.jitter_s, self.period_s, self.asks = nodes, jitter_s, period_s, asks
        self.selector = selectors.DefaultSelector()
        self.names = [f"{prefix}-{number}" for number in range(count)]
        self.links, self.due, self.sent = {}, {}, {}
        self.closed, self.late, self.took, self.pushed, self.task = 0, 0.0, [], {}, None
        self.next, self.round = 0, time.monotonic()
        for number, name in enumerate(self.names):
            self.connect(name, nodes[number % len(nodes)])
            if number % 200 == 199:
                self.turn(0)

    def connect(self, name, node):
        # One address may have only a part of a node's connections.
        number = int(name.rsplit("-", 1)[1]) // 100
        source = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        link = socket.create_connection(("127.0.0.1", node.tcp), source_address=(source, 0))
        link.sendall(frame({"flag": "ADH40", "id": name, "push": True}))
        self.links[name] = (link, node)
        self.selector.register(link, selectors.EVENT_READ, name)

    def turn(self, wait=0.01):
        for key, _ in self.selector.select(wait):
            name = key.data
            link, node = self.links[name]
            try:
                read = link.recv(65_536)
            except OSError:
                read = b""
            now = time.monotonic()
            if not read:
                self.closed += node.process.poll() is None
                self.selector.unregister(link)
                link.close()
                self.sent.pop(name, None)
                self.due[name] = (now + random.uniform(0, self.jitter_s), node)
            elif self.task and self.task in read:
                self.pushed.setdefault(name, now)
            elif name in self.sent and b"ADH18" in read:
                self.took.append(now - self.sent.pop(name))
        self.reconnect()
        self.beat()

    def reconnect(self):
        now = time.monotonic()
        for name, (at, left) in list(self.due.items()):
            others = [node for node in self.nodes if node is not left]
            if now >= at:
                try:
                    self.connect(name, random.choice(others or self.nodes))
                    del self.due[name]
                except OSError:
                    self.due[name] = (now + random.uniform(0, self.jitter_s), left)

    def beat(self):
        """Sends the beats that are due: all hosts, one after the other, in each period."""
        now = time.monotonic()
        due = min(int((now - self.round) / self.period_s * len(self.names)), len(self.names))
        for name in self.names[self.next : due]:
            if name in self.links and name not in self.due and name not in self.sent:
                try:
                    sent = time.monotonic()
                    self.links[name][0].sendall(ASKED_BEAT if self.asks else BEAT)
                    if self.asks:
                        self.sent[name] = sent
                except OSError:
                    pass  # Its end is read next.
        self.next = due
        if due == len(self.names) and now - self.round >= self.period_s:
            self.late = max(self.late, now - self.round - self.period_s)
            self.next, self.round = 0, now

    def run(self, seconds, done=lambda: False, every=0.2):
        """Runs until `done`, which is asked in intervals. Returns the time it took."""
        begin = looked = time.monotonic()
        while time.monotonic() - begin < seconds:
            self.turn()
            now = time.monotonic()
            if now - looked > every:
                looked = now
                if done():
                    break
        return time.monotonic() - begin

    def close(self):
        for link, _ in self.links.values():
            link.close()
