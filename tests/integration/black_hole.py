# SPDX-License-Identifier: Apache-2.0
"""Links that die without a FIN: a user and network namespace of one's own, and nft rules that drop packets in it.

    @in_namespace
    def test_something(): ... with Rig() as rig: drop_packets(rig.control.port) ...

The test runs again in a child that is root of its own namespace; it is skipped, with the reason, where that is refused.
"""

import functools
import inspect
import os
import subprocess

import pytest

INSIDE = "RIG_INSIDE_NAMESPACE"
TABLE = "rig_hole"


def reason_against():
    """Why this machine has no such namespaces, or None."""
    tried = ("ip link set lo up && nft add table inet rig_try && nft add chain inet rig_try in "
             "'{ type filter hook input priority 0; }'")
    try:
        done = subprocess.run(["unshare", "--user", "--map-root-user", "--net", "sh", "-c", tried],
                              capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no namespace with packet filter: {error}"
    return None if done.returncode == 0 else f"no namespace with packet filter: {done.stderr.strip()[:200]}"


def in_namespace(test):
    @functools.wraps(test)
    def outer(*args, **kwargs):
        if os.environ.get(INSIDE):
            return test(*args, **kwargs)
        reason = reason_against()
        if reason:
            pytest.skip(reason)
        # absolute path: the child starts elsewhere
        node = f"{os.path.abspath(inspect.getfile(test))}::{test.__name__}"
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
             "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", node],
            env={**os.environ, INSIDE: "1"}, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.fail(f"inside the namespace:\n{done.stdout[-20000:]}{done.stderr[-5000:]}", pytrace=False)
        return None

    return outer


def _nft(*commands):
    subprocess.run(["nft", "-f", "-"], input="\n".join(commands) + "\n", text=True, check=True, capture_output=True)


def drop_packets(port):
    """From now on nothing goes to or from this TCP port. Only for use inside."""
    assert os.environ.get(INSIDE), "would cut the machine's own network"
    _nft(f"add table inet {TABLE}", f"add chain inet {TABLE} in {{ type filter hook input priority 0; }}",
         f"add rule inet {TABLE} in tcp dport {port} drop", f"add rule inet {TABLE} in tcp sport {port} drop")


def pass_packets():
    """Everything passes again."""
    _nft(f"delete table inet {TABLE}")
