# SPDX-License-Identifier: Apache-2.0
"""A small file system that the daemon of a Rig alone sees, at /data: a tmpfs of 1 MB and 100 inodes in a user namespace."""

import shlex
import subprocess

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], stdin=subprocess.DEVNULL, capture_output=True,
                          check=False).returncode == 0


def wrapper(path, binary, fill):
    """Write a program to be run in place of @binary; @fill: shell that runs in the file system, before the daemon."""
    path.write_text(f"""#!/bin/sh
[ "$1" = run ] || exec {shlex.quote(binary)} "$@"
exec {shlex.join(NAMESPACE)} sh -c '
        cd "$ECS_HEALTH_AGENT_ROOT" && mount -t tmpfs -o size=1m,nr_inodes=100 tmpfs data && cd data || exit 1
        {fill}
        cd / && exec "$@"' sh {shlex.quote(binary)} "$@"
""", encoding="ascii")
    path.chmod(0o755)
    return path


def mounts(rig, *paths):
    """These mounts, and no other, are what the daemon of @rig finds."""
    for path in paths:
        (rig.root / path.strip("/")).mkdir(exist_ok=True)
    (rig.root / "proc/1/mountinfo").write_text("".join(
        f"{20 + number} 1 0:{50 + number} / {path} rw shared:1 - xfs /dev/nvme{number}n1p1 rw\n"
        for number, path in enumerate(paths)), encoding="ascii")
