#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What stands in for docker and for the ECS agent on the booted host: host.py docker | host.py ecs.

Both are run by units of the names that they have in life, so that stopping, killing and restarting them is systemd's.
"""

import grp
import json
import os
import signal
import sys
import time

FAKES = "/fakes"
ABOUT = "/run/fake-aws.json"  # written by fake_aws.py once it listens
SOCKET = "/run/docker.sock"


def docker():
    sys.path.insert(0, FAKES)
    from fake_docker import FakeDocker

    os.umask(0o777)  # nobody may connect before the socket has its group
    fake = FakeDocker(SOCKET).start()
    os.chown(SOCKET, 0, grp.getgrnam("docker").gr_gid)
    os.chmod(SOCKET, 0o660)
    signal.sigwait([signal.SIGTERM])
    fake.stop()


def ecs():
    ends = time.monotonic() + 30
    while not os.path.exists(ABOUT):
        if time.monotonic() > ends:
            raise TimeoutError(f"{ABOUT} does not appear: the fake AWS has not started")
        time.sleep(0.05)
    with open(ABOUT, encoding="utf-8") as file:
        about = json.load(file)
    os.execv("/usr/bin/python3", [
        "python3", f"{FAKES}/fake_ecs_agent.py", "--detached", "--root", "/", "--introspection-port", "51678",
        "--control-url", about["control_plane"], "--arn", about["arn"], "--cluster", about["cluster"],
        "--time-scale", "0.05", "--backoff-scale", "0.1"])


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM] if sys.argv[1] == "docker" else [])
    {"docker": docker, "ecs": ecs}[sys.argv[1]]()
