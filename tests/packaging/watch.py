# SPDX-License-Identifier: Apache-2.0
"""The alarms of the template beside a running Rig, whose daemon publishes with a second for a minute."""

import time

from alarm_rules import GROUP, MINUTE, TEST_MINUTE, Bells, Store
from template import ALARMS, Template

RULES = Template(ALARMS, **GROUP).alarms()
SILENT = {"SilentWarning", "SilentCritical"}

# A minute of these tests is a second. Disks are left out where they are not the matter: the machine's own may be full.
CONFIG = {"grace": "1s", "grace_dead": "1s", "confirm": {"before": "300ms"},
          "metrics": {"period": f"{TEST_MINUTE:g}s", "sample": "200ms"},
          "witnesses": ["introspection", "log", "sockets", "units", "docker", "path", "memory", "metadata"]}


def write(rig, name, text):
    """Over a file of the rig's /proc, in place: it is held open."""
    with open(rig.root / "proc" / name, "r+", encoding="ascii") as file:
        file.truncate(0)
        file.write(text)


def calm_memory(rig):
    """A host that has enough, whatever the machine of the test has."""
    write(rig, "meminfo", "MemTotal: 8000000 kB\nMemFree: 4000000 kB\nMemAvailable: 5000000 kB\nBuffers: 0 kB\n"
          "Cached: 1000000 kB\nSwapTotal: 1000000 kB\nSwapFree: 1000000 kB\n")
    write(rig, "vmstat", "oom_kill 7\n")
    write(rig, "pressure/memory", pressure(0, 0))


def pressure(some, full):
    return "".join(f"{name} avg10=0.00 avg60={share:.2f} avg300=0.00 total=0\n"
                   for name, share in (("some", some), ("full", full)))


def switch_off(rig, off=True):
    with rig.fake.world.live() as state:
        tags = state.groups[rig.group].tags
        tags.clear()
        if off:
            tags["ecs-health-agent"] = "off"


class Watch:
    """The alarms beside a running rig. @hosts: how many of the group's hosts have a daemon, as Auto Scaling would count."""

    def __init__(self, rig, hosts=1):
        self.rig, self.hosts = rig, hosts
        self.store = Store(began=time.time()).past(hosts)
        self.bells = Bells(RULES, self.store)

    def look(self):
        now = self.store.time(time.time())
        self.store.record(self.rig.fake.metrics)
        size = 0 if self.rig.detaches() else self.hosts
        for minute in range(int(self.bells.now), int(now), MINUTE):
            self.store.size(minute, size)
        self.bells.advance(now)
        return self.bells

    def until(self, condition, timeout, what):
        def there():
            time.sleep(0.1)
            return condition(self.look())

        try:
            self.rig.wait_for(there, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; ringing: {self.bells.ringing()}, rang: {self.bells.rang}, "
                                 f"{self.bells.history[-30:]}") from None

    def pass_minutes(self, number):
        """That many more, with nothing ringing that did not ring before."""
        until = self.look().now + number * MINUTE
        self.until(lambda bells: bells.now >= until, 30 + 3 * number * TEST_MINUTE, f"{number} minutes")

    def expect(self, *names, also=(), timeout=120):
        """Exactly these ring in the end. @also: may have rung, by how long things took."""
        self.until(lambda bells: set(names) <= bells.ringing(), timeout, f"the alarms {sorted(names)}")
        assert self.bells.rang <= set(names) | set(also), f"rang as well: {self.bells.rang - set(names)}"

    def expect_rest(self, timeout=90):
        self.until(lambda bells: not bells.ringing(), timeout, "the alarms to rest again")
