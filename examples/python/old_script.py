"""A script of the older Python server, unchanged but for its import.

    python3 old_script.py
"""

from anthill.compat import udpControl


class Info:
    def ipList():
        return []  # everyone who is online

    def disCommands():
        return {"uptime": 2, "echo hello": 1}

    def key():
        return "AC131"


udpControl(Info).start()
