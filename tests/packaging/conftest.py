# SPDX-License-Identifier: Apache-2.0
"""What the tests of the alarms share; the fakes and the rig of the integration tests are used here as well."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))


@pytest.fixture
def watched():
    """A function that starts a Rig whose daemon is well, has published for some minutes, and whose alarms rest."""
    from rig import Rig, merged  # here, as other tests in this directory need neither it nor PyYAML
    from watch import CONFIG, Watch, calm_memory

    rigs = []

    def start(config=(), calm=3, **options):
        rig = Rig(merged(CONFIG, dict(config)), daemon=False, **{"size": 1, **options})
        rig.__enter__()
        rigs.append(rig)
        calm_memory(rig)
        rig.start_daemon()
        group = rig.fake.world.group(rig.group)
        group.detach_seconds = group.launch_seconds = 0.2
        rig.wait_ready()
        watch = Watch(rig)
        watch.pass_minutes(calm)
        assert not watch.bells.rang
        return rig, watch

    yield start
    for rig in rigs:
        rig.__exit__(None, None, None)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A function that makes the daemon see one mount, /data, filled by a line of shell that runs within it."""
    import small_disk
    from rig import Rig, binary, merged
    from watch import CONFIG, Watch, calm_memory

    if not small_disk.can_mount():
        pytest.skip("no user namespace in which a file system could be mounted")

    def make(fill):
        monkeypatch.setenv("ECS_HEALTH_AGENT_BINARY", str(small_disk.wrapper(tmp_path / "daemon", binary(), fill)))
        rig = Rig(merged(CONFIG, {"witnesses": "all"}), size=1, docker=True, daemon=False, agent=("--tasks", "3"))
        rig.__enter__()
        made.append(rig)
        small_disk.mounts(rig, "/data")
        calm_memory(rig)
        rig.start_daemon()
        rig.wait_ready()
        return rig, Watch(rig)

    made = []
    yield make
    for rig in made:
        rig.__exit__(None, None, None)
