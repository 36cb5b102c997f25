# SPDX-License-Identifier: Apache-2.0
"""The playground: a fake cluster with a real daemon on one of its hosts, which stays until ^C, to try everything on.

Two programs are left in DIRECTORY: `ecs-health-agent`, the real one in this host's surroundings, and `world`, which does to
the host what life does: cut its connection, fill its memory, change its stack. Waits are shorter than in life.
"""

import inspect
import json
import os
import pathlib
import shlex
import signal
import socket
import sys
import threading

from demo import CONFIG, paint, say, tell
from rig import PYTHON, Rig, binary, merged

CLIENT = """#!{python}
# The playground's other end: says what is wanted, prints what came of it.
import json, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    try:
        link.connect({path!r})
    except OSError as error:
        sys.exit(f"world: the playground is not running ({{error}})")
    link.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    link.shutdown(socket.SHUT_WR)
    answer = json.loads(b"".join(iter(lambda: link.recv(65536), b"")))
print(answer["text"])
sys.exit(answer["status"])
"""


class World:
    """What can be done to the host; each public method is a command, and its docstring the help."""

    def __init__(self, rig):
        self.rig = rig
        self.stack = CONFIG
        rig.set_metadata(self.stack)

    def cut(self):
        """the ECS agent's connection is cut, and every new one refused"""
        self.rig.drop_link()
        return "The connection is cut. Watch: ecs-health-agent status --watch"

    def mend(self):
        """connections work again"""
        self.rig.restore_link()
        return "Connections are accepted again; the agent takes its time to come back."

    def kill_agent(self):
        """the ECS agent's process dies"""
        self.rig.kill_agent()
        return "The ECS agent is dead. The daemon restarts its unit after grace_dead."

    def tag(self, value="off"):
        """the group gets the tag ecs-health-agent = VALUE; "" takes it away"""
        tags = self.rig.fake.world.group(self.rig.group).tags
        if value:
            tags["ecs-health-agent"] = value
        else:
            tags.pop("ecs-health-agent", None)
        return f"The group {self.rig.group} has the tags {tags}."

    def metadata(self, text):
        """the stack is updated: '{"grace": "20s"}' is laid over ECSHealthAgent in the resource's Metadata"""
        self.stack = merged(self.stack, json.loads(text))
        self.rig.set_metadata(self.stack)
        return "The stack is updated. The daemon reads it within its refresh time, 5 s here, give or take half."

    def attach(self):
        """an operator attaches this host, once it is out, to its group again"""
        with self.rig.fake.world.live() as state:
            if state.instances[self.rig.instance].group:
                raise ValueError("this host is in its group")
        self.rig.fake.world.attach(self.rig.group, self.rig.instance)
        return "The group takes it back. With its connection mended the daemon undoes its own drain and watches again."

    def group(self):
        """who is in the group"""
        with self.rig.fake.world.live() as state:
            return "\n".join(f"{one.id}  {one.lifecycle or 'in no group':<11} {one.zone}{'  <- this host' * (one.id == self.rig.instance)}"
                             for one in state.instances.values())

    def calls(self):
        """the last twenty calls that AWS has had, metrics left out"""
        calls = [call for call in self.rig.fake.calls if call["action"] != "PutMetricData"]
        return "\n".join(f"{call['service']:<15} {call['action']:<31} {call['status']}" for call in calls[-20:])

    def log(self):
        """the daemon's log"""
        return self.rig.log()

    def help(self):
        """this"""
        rows = [(name.replace("_", "-"), method) for name, method in inspect.getmembers(self, inspect.ismethod)
                if not name.startswith("_")]
        return "\n".join(f"  world {' '.join([name, *(f'[{p.upper()}]' for p in inspect.signature(method).parameters)]):<20} "
                         f"{method.__doc__}" for name, method in rows)


def answer(world, words):
    name, *arguments = words or ["help"]
    method = getattr(world, name.replace("-", "_"), None)
    if name.startswith("_") or not inspect.ismethod(method):
        return {"status": 2, "text": f"world: unknown command {name!r}; known are:\n{world.help()}"}
    try:
        return {"status": 0, "text": method(*arguments)}
    except (TypeError, ValueError, KeyError) as error:
        return {"status": 2, "text": f"world: {error}"}


def serve(listener, world):
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        with link:
            words = json.loads(b"".join(iter(lambda: link.recv(65536), b"")) or b"[]")
            link.sendall(json.dumps(answer(world, words)).encode())


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def leave_programs(directory, rig):
    directory.mkdir(parents=True, exist_ok=True)
    given = {key: value for key, value in rig.environment().items() if key.startswith(("AWS_", "ECS_", "DBUS_"))}
    write_program(directory / "ecs-health-agent", "#!/bin/sh\n" + "".join(
        f"export {key}={shlex.quote(value)}\n" for key, value in sorted(given.items())) +
        f'exec {shlex.quote(str(pathlib.Path(binary()).resolve()))} "$@"\n')
    path = str(rig.root / "world.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    write_program(directory / "world", CLIENT.format(python=PYTHON, path=path))
    return listener


def main(directory):
    directory = pathlib.Path(directory).resolve()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Rig(units=True, docker=True, daemon=False) as rig:
        # All else stands in the stack, as in life, and can be changed there.
        rig.write_config({"cloudformation": {"refresh": "5s"}})
        world = World(rig)
        rig.start_daemon()
        os.chmod(rig.root, 0o755)
        listener = leave_programs(directory, rig)
        threading.Thread(target=serve, args=(listener, world), daemon=True).start()
        say("A host of a fake cluster, one of six in its group, with a real daemon. It stays until ^C.")
        tell("In another terminal:")
        tell("")
        tell(paint("1", f"  export PATH={shlex.quote(str(directory))}:$PATH"))
        tell("  ecs-health-agent status --watch      what the daemon sees; also doctor, metrics, iam-policy, check-config, pause")
        tell("  world help                           what can be done to this host:")
        print(world.help(), flush=True)
        stopped.wait()
        listener.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
