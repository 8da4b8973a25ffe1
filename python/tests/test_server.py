"""The client against a running server with the agents web-1 and web-2.

`tests/python.rs` starts them and gives their addresses in the environment.
"""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import threading
import unittest

from anthill import AnthillError, ApiError, Client, SourceError, TaskFailed, Unreachable
from anthill.compat import udpControl
from old_client import OldClient

PATIENCE_S = 60
OLD_IP = "127.0.0.9"
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "python"


def example(name, *args):
    command = [sys.executable, str(EXAMPLES / name), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


class Hosts(unittest.TestCase):
    def test_hosts_have_their_members(self):
        client = Client()
        online = {host.id: host for host in client.hosts(state="online")}
        self.assertLessEqual({"web-1", "web-2"}, set(online))
        host = online["web-1"]
        self.assertTrue(host.online)
        self.assertEqual(host.ip, "127.0.0.1")
        self.assertIsNotNone(host.since.tzinfo)
        self.assertEqual(client.host("web-1").raw["id"], "web-1")
        self.assertEqual(client.health()["key_prefix"], "AC")

    def test_errors_say_what_the_server_says(self):
        with self.assertRaises(ApiError) as caught:
            Client().host("web-3")
        self.assertEqual(caught.exception.status, 404)
        self.assertIn("no host of this name is known", str(caught.exception))
        with self.assertRaisesRegex(Unreachable, "no server at http://127.0.0.1:1"):
            Client("http://127.0.0.1:1").health()
        with self.assertRaisesRegex(ValueError, "must be http://HOST:PORT"):
            Client("127.0.0.1:11480")

    def test_a_token_is_sent(self):
        url, file = os.environ["ANTHILL_TEST_TOKEN_API"], os.environ["ANTHILL_TEST_TOKEN_FILE"]
        with self.assertRaises(ApiError) as caught:
            Client(url).hosts()
        self.assertEqual(caught.exception.status, 401)
        self.assertEqual(Client(url, token_file=file).hosts(), [])


class Tasks(unittest.TestCase):
    def test_results_come_and_the_task_is_checked(self):
        task = Client().dispatch("ACpy1", ["echo one", "echo two"], hosts=["web-1", "web-2"])
        self.assertEqual(task.sent, {"web-1": "sent", "web-2": "sent"})
        results = list(task.results(PATIENCE_S))
        self.assertEqual(len(results), 4)
        first = [result for result in results if result.host == "web-1"]
        said = [(result.command, result.exit, result.output) for result in first]
        self.assertEqual(said, [("echo one", 0, "one\n"), ("echo two", 0, "two\n")])
        self.assertEqual(task.output("web-1", "echo one"), b"one\n")
        status = task.wait(PATIENCE_S).check()
        self.assertEqual((str(status), status.ok, status.ended), ("2 done", True, True))
        self.assertEqual(status.commands, [("echo one", 2.0), ("echo two", 1.0)])
        self.assertIn("ACpy1", [task["key"] for task in Client().tasks()])

    def test_a_key_is_used_once_and_may_be_made(self):
        client = Client()
        first = client.dispatch(None, "false", hosts=["web-1"])
        with self.assertRaises(ApiError) as caught:
            client.dispatch(first.key, "false")
        self.assertEqual(caught.exception.status, 409)
        with self.assertRaisesRegex(TaskFailed, "1 failed"):
            first.wait(PATIENCE_S).check()

    def test_offline_hosts_are_no_success(self):
        task = Client().dispatch(None, "true", hosts=["web-9"])
        self.assertEqual((task.sent, task.unknown), ({"web-9": "offline"}, ["web-9"]))
        status = task.wait(PATIENCE_S)
        self.assertEqual((status.ended, status.ok), (True, False))

    def test_a_source_is_a_task(self):
        class Info:
            def ipList(self):
                return ["web-2"]

            def disCommands(self):
                return {"echo two": 1}

            def key(self):
                return "ACpy2"

        client = Client()
        self.assertTrue(client.dispatch(Info()).wait(PATIENCE_S).ok)
        with self.assertRaisesRegex(ValueError, "a source gives commands and hosts itself"):
            client.dispatch(Info, "uptime")

    def test_events_of_a_task_arrive(self):
        client = Client()
        events = client.events("dispatch", "result")
        found = []

        def listen():
            for event in events:
                found.append(event)
                if len(found) == 2:
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        # The stream has begun when one of these tasks is on it.
        while listener.is_alive():
            client.dispatch(None, "echo one", hosts=["web-1"]).wait(PATIENCE_S)
        self.assertEqual(found[0]["node"], "n1")
        self.assertLessEqual({event["event"] for event in found}, {"dispatch", "result"})
        self.assertTrue(client.recent_events())


class OldMode(unittest.TestCase):
    def run_thread(self, thread):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            thread.start()
            thread.join(PATIENCE_S)
        self.assertFalse(thread.is_alive())
        return out.getvalue(), err.getvalue()

    def test_an_old_host_is_told_and_its_progress_printed(self):
        server = os.environ["ANTHILL_TEST_TCP"].split(":")
        port = int(os.environ["ANTHILL_TEST_AGENT_PORT"])
        old = OldClient((server[0], int(server[1])), OLD_IP, port, ["uptime", "df -h"])
        self.addCleanup(old.close)
        client = Client()
        while OLD_IP not in [host.id for host in client.hosts(state="online")]:
            pass

        class Info:
            keys = iter(["ACold1", "ACold2", "ACold2"])

            def ipList():
                return [OLD_IP, "web-8"]

            def disCommands():
                return {"df -h": 1, "uptime": 2}

            def key():
                return next(Info.keys)

        thread = udpControl(Info)
        self.assertFalse(thread.daemon)
        for key in ("ACold1", "ACold2"):
            out, err = self.run_thread(thread)
            self.assertEqual(err, "")
            lines = out.splitlines()
            self.assertEqual(lines[:2], [f"{OLD_IP}: sent", "web-8: offline"])
            for line in (f"{OLD_IP}: uptime: done", f"{OLD_IP}: df -h: done", f"{OLD_IP}: done"):
                self.assertIn(line, lines)
            self.assertIn(lines[-1], (f"{key}: 1 done, 1 offline", f"{key}: 1 offline, 1 done"))
        # The same key again: said, and nothing is sent.
        out, err = self.run_thread(thread)
        self.assertEqual(out, "")
        self.assertIn("ACold2: POST /v1/tasks: 409", err)
        self.assertIn("nothing was sent", err)
        self.assertIsInstance(thread.error, AnthillError)

    def test_a_wrong_source_is_refused_at_once(self):
        class Info:
            def ipList():
                return []

            def disCommands():
                return {"uptime": 1}

            def key():
                return "AC_131"

        with self.assertRaisesRegex(SourceError, r"Info\.key\(\).*write 'AC-131'"):
            udpControl(Info)


    def test_a_program_that_sent_nothing_fails(self):
        program = (
            "from anthill.compat import udpControl\n"
            "class Info:\n"
            "    ipList = lambda: ['web-1']\n"
            "    disCommands = lambda: {'true': 1}\n"
            "    key = lambda: 'ACagain'\n"
            "control = udpControl(Info)\n"
            "control.start()\n"
        )
        looks = "control.join()\nprint(control.error)\n"
        statuses = []
        for text in (program, program, program + looks):
            command = [sys.executable, "-W", "error", "-c", text]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            statuses.append(ended.returncode)
        self.assertEqual(statuses, [0, 1, 0])
        self.assertIn("ACagain", ended.stdout)


class Examples(unittest.TestCase):
    def test_the_old_script_runs(self):
        ended = example("old_script.py")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        for line in ("web-1: sent", "    hello", "web-2: done"):
            self.assertIn(line, ended.stdout.splitlines())

    def test_dispatch_prints_results(self):
        ended = example("dispatch.py", "echo one", "web-1")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual(ended.stdout.splitlines()[0], "web-1: exit 0: one")
        self.assertEqual(example("dispatch.py", "false", "web-1").returncode, 1)


if __name__ == "__main__":
    unittest.main()
