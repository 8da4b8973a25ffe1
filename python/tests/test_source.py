"""Sources of dispatches: which classes are taken, and what the errors name."""

import types
import unittest

from anthill import SourceError, source


class Bare:
    def ipList():
        return ["10.0.0.7"]

    def disCommands():
        return {"uptime": 2, "df -h": 1.5}

    def key():
        return "AC131"


class WithSelf:
    hosts = ["a", "b"]

    def ipList(self):
        return self.hosts

    @staticmethod
    def disCommands():
        return {"uptime": 1}

    @classmethod
    def key(cls):
        return "AC" + cls.__name__


def changed(**methods):
    return type("Info", (Bare,), methods)


class Sources(unittest.TestCase):
    def test_classes_and_instances_with_and_without_self(self):
        self.assertEqual(source.read(Bare).hosts, ["10.0.0.7"])
        self.assertEqual(source.read(Bare()).commands, {"uptime": 2, "df -h": 1.5})
        for info in (WithSelf, WithSelf()):
            read = source.read(info)
            self.assertEqual((read.key, read.hosts), ("ACWithSelf", ["a", "b"]))
        given = types.SimpleNamespace(
            ipList=lambda: None, disCommands=lambda: {"a": 1}, key=lambda: "AC1"
        )
        self.assertIsNone(source.read(given).hosts)

    def test_an_empty_list_is_everyone_only_in_the_old_mode(self):
        everyone = changed(ipList=lambda: [])
        self.assertIsNone(source.read(everyone, empty_is_all=True).hosts)
        with self.assertRaisesRegex(SourceError, r"Info\.ipList\(\) is empty; None means all"):
            source.read(everyone)

    def test_errors_name_the_method(self):
        class Needs:
            def __init__(self, name):
                self.name = name

        def fails():
            raise KeyError("x")

        cases = [
            (changed(ipList="10.0.0.7"), r"Info\.ipList must be a method"),
            (changed(key=None), r"Info\.key must be a method"),
            (changed(ipList=lambda: "10.0.0.7"), r"Info\.ipList\(\) must be a list"),
            (changed(ipList=lambda: [7]), r"Info\.ipList\(\) has the host 7"),
            (changed(disCommands=lambda: {}), r"Info\.disCommands\(\) must have at least"),
            (changed(disCommands=lambda: {"a": "1"}), r"disCommands\(\) has the priority '1'"),
            (changed(disCommands=lambda: {"a": float("nan")}), r"the priority nan for 'a'"),
            (changed(disCommands=lambda: {"a": True}), r"the priority True for 'a'"),
            (changed(disCommands=lambda: {3: 1}), r"disCommands\(\) has the command 3"),
            (changed(key=lambda: 131), r"Info\.key\(\) must be a str such as 'AC131'; it is 131"),
            (changed(key=lambda: "AC 1"), r"Info\.key\(\) is 'AC 1'"),
            (changed(key=lambda: "AC_1_2"), r"Info\.key\(\) is 'AC_1_2'.*write 'AC-1-2'"),
            (changed(key=lambda a, b: "AC1"), r"Info\.key\(\) must take no argument"),
            (changed(key=fails), r"Info\.key\(\) raised KeyError"),
            (type("Info", (Needs, WithSelf), {}), r"Info\.ipList\(\) takes self, and Info\(\)"),
        ]
        for info, text in cases:
            with self.subTest(text), self.assertRaisesRegex(SourceError, text):
                source.read(info)

    def test_a_list_of_commands_runs_in_its_order(self):
        self.assertEqual(source.commands_of(["b", "a"]), {"b": 2, "a": 1})
        self.assertEqual(source.commands_of("b"), {"b": 1})
        with self.assertRaisesRegex(SourceError, "has 'a' twice"):
            source.commands_of(["a", "a"])


if __name__ == "__main__":
    unittest.main()
