# SPDX-License-Identifier: Apache-2.0
"""The demo: a host whose ECS agent loses its connection, and what becomes of it, in about a minute.

Everything is real but AWS and the ECS agent, which are the fakes of the tests; grace is 8 s instead of 8 min.
"""

import os
import subprocess
import sys
import threading
import time

from rig import Rig, binary

CONFIG = {
    "grace": "8s", "grace_dead": "5s", "cooldown": "0s", "confirm": {"before": "3s"},
    "brakes": {"turn": "4s", "settle": "1s", "boot_grace": "0s", "window": "10m"},
    "metrics": {"period": "5s", "sample": "1s"}, "orphan": {"after": "15s"},
}

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def say(text):
    print(paint("1;36", f"\n── {text}"), flush=True)


def tell(text):
    print(f"   {text}", flush=True)


class Tail(threading.Thread):
    """Shows the daemon's log as it grows, with seconds since the drop in place of the date."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig, self.since, self.offset, self.stopped = rig, time.monotonic(), 0, False

    def skip(self):
        self.offset = self.rig.log_path.stat().st_size
        self.since = time.monotonic()

    def run(self):
        while not self.stopped:
            with open(self.rig.log_path, "rb") as f:
                f.seek(self.offset)
                text = f.read()
            whole = text[:text.rfind(b"\n") + 1]
            self.offset += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                level, _, message = line.partition(" ")[2].partition(": ")
                message = message.split(", request ")[0]
                colour = {"warning": "33", "error": "31"}.get(level, "0")
                print(f"   {time.monotonic() - self.since:5.1f} s  {paint(colour, message)}", flush=True)
            time.sleep(0.1)


def status(rig):
    shown = subprocess.run([binary(), "status"], env=rig.environment(), capture_output=True, text=True, timeout=20)
    for line in shown.stdout.splitlines():
        print(f"   │ {line}", flush=True)


def introspection(rig):
    import urllib.request
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.introspection_port}/v1/metadata", timeout=5) as answer:
        return answer.read().decode()


def stage(rig):
    return ((rig.status() or {}).get("stage") or {}).get("name")


def calls_table(rig, since):
    tell(f"{'at':>7}  {'service':<12} {'call':<31} answer")
    for call in rig.fake.calls:
        if call["time"] < since or call["action"] == "PutMetricData":
            continue
        changed = call["effect"] and not call["action"].startswith(("Describe", "List"))
        note = " ← changed something" if changed else " (a probe of our rights, with an id that cannot exist)" \
            if call["status"] == 400 else ""
        tell(f"{call['time'] - since:6.1f} s  {call['service']:<12} {call['action']:<31} {call['status']}{note}")
    sent = [call for call in rig.fake.calls if call["action"] == "PutMetricData"]
    tell(f"and {len(sent)} PutMetricData with {len(rig.fake.metrics)} data points")


def play(rig, tail):
    say("1. A healthy container instance, one of six in its group.")
    rig.wait_for(lambda: (rig.status() or {}).get("verdict", {}).get("cause") == "none", 20, "a healthy verdict")
    status(rig)

    with rig.fake.world.live() as state:
        before = set(state.instances)

    say("2. Normal life: the service closes the connection, the agent reconnects at once. Nothing happens.")
    tail.skip()
    tail.start()
    rig.control.close()
    time.sleep(1)
    rig.wait_for(rig.linked, 10, "the reconnect")

    say("3. Now the connection is cut, and every new one refused. The agent's own endpoint looks as well as ever:")
    started = time.time()
    tail.since = time.monotonic()
    group = rig.fake.world.group(rig.group)
    group.tags["ecs-health-agent"] = "off"
    rig.drop_link()
    tell(introspection(rig))
    tell("")
    rig.wait_for(lambda: stage(rig) == "held", 40, "a brake that holds")

    say("4. Somebody has switched the group off by a tag, so it is held, and says so:")
    status(rig)
    assert not rig.drains() and not rig.detaches()

    say("5. The tag is taken away.")
    del group.tags["ecs-health-agent"]
    rig.wait_for(lambda: stage(rig) == "removed", 60, "the removal")
    time.sleep(0.3)
    tail.stopped = True
    tail.join()

    say("6. What AWS was asked, since the cut:")
    calls_table(rig, started)

    say("7. And what is left:")
    status(rig)
    assert rig.actions() == ["drain", "detach"], rig.actions()
    tell("")
    tell(f"Auto Scaling group {rig.group}, desired capacity {group.desired}:")
    with rig.fake.world.live() as state:
        for one in state.instances.values():
            mark = "  ← this host" if one.id == rig.instance else "  ← the replacement" if one.id not in before else ""
            tell(f"  {one.id}  {one.lifecycle:<10} {one.zone}{mark}")
    say("8. Out of its group it is looked after by nobody, and billed. After a while it ends itself: it is deregistered at")
    tell("ECS, so that what DRAINING could not move is started elsewhere, and then stopped. That is 15 s here, 1 h in life.")
    rig.wait_for(lambda: len(rig.actions()) > 3, 60, "the orphan's end")
    rig.wait_for(lambda: stage(rig) == "removed", 20, "the end of the end")
    assert rig.actions() == ["drain", "detach", "deregister", "stop"], rig.actions()
    tell(f"{rig.instance} is {rig.own.status} at ECS and {rig.fake.world.instance(rig.instance).power} at EC2.")
    say("9. The whole story, as `ecs-health-agent explain 1` tells it from what is on disk:")
    told = subprocess.run([binary(), "explain", "1"], env=rig.environment(), capture_output=True, text=True, timeout=20)
    assert told.returncode == 0 and "was taken out of its group" in told.stdout, told.stdout + told.stderr
    for line in told.stdout.splitlines():
        tell(line)
    say("One drain, one detach, one end; the group has launched a replacement.")


def main():
    print(paint("1", "ecs-health-agent: a connection drop, from the first sign to the replacement"))
    print("Real daemon, fake AWS. Grace is 8 s here and 8 min in life; all other waits are shortened as well.")
    with Rig(config=CONFIG) as rig:
        play(rig, Tail(rig))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
