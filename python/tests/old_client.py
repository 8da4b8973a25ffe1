"""A host of the older Python fleet, acted out: frames over TCP, keys by datagram, no output."""

import json
import socket
import struct
import threading


class OldClient:
    """Connects from `ip`, beats, and reports the `commands` of each task as done."""

    def __init__(self, server, ip, port, commands):
        self._commands = commands
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((ip, port))
        self._tcp = socket.create_connection(server, source_address=(ip, 0))
        self._send({"flag": "ADH18", "phase": 1, "ACK": "keepAlive"})
        threading.Thread(target=self._receive, daemon=True).start()

    def close(self):
        self._tcp.close()
        self._udp.close()

    def _send(self, message):
        body = json.dumps(message).encode()
        self._tcp.sendall(struct.pack("<i", len(body)) + body)

    def _receive(self):
        try:
            while True:
                self._work(self._udp.recv(1024).decode())
        except OSError:
            return

    def _work(self, key):
        self._send({"flag": "ADH33", "RCC": 1, "taskId": key, "answerTime": 0.0})
        self._report(key, 1, None, 0)
        for done, command in enumerate(self._commands):
            self._report(key, 2, command, done)
            self._report(key, 3, None, done + 1)

    def _report(self, key, phase, working, done):
        self._send({
            "flag": "ADH27", "code": key, "phase": phase, "working": working,
            "complete": self._commands[:done], "oncall": self._commands[done:],
        })
