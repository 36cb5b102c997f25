#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A fake systemd on a private bus: org.freedesktop.systemd1 with ecs.service and docker.service; and a fake polkit.

A process of its own (python3-dbus and python3-gi of the system's python). Commands are lines on stdin, each answered
by a line of JSON on stdout; what clients ask for is told as lines {"event": "RestartUnit", "unit": ..., "mode": ...}.

    stop UNIT [SECONDS]        an operator's stop job: JobNew, deactivating, inactive, JobRemoved; PartOf is followed
    start UNIT, restart UNIT
    exit UNIT STATUS           the main process ends by itself: 0 -> inactive (dead), else failed with that status
    kill UNIT SIGNAL           it is killed; auto-restart
    disable UNIT, enable UNIT, mask UNIT, unmask UNIT
    set UNIT PROPERTY VALUE    any property, VALUE in JSON
    forget UNIT                the unit does not exist
    deny on|off                RestartUnit and the like need an authorization that nobody gives
    break on|off               RestartUnit answers, but the job fails
    polkit on|off|deny         there, which it is at the start; not there; says no
    status
"""

import json
import os
import signal
import sys
import time

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.freedesktop.systemd1"
POLKIT = "org.freedesktop.PolicyKit1"
ROOT = "/org/freedesktop/systemd1"
MANAGER, UNIT, SERVICE, JOB = (f"{NAME}.{one}" for one in ("Manager", "Unit", "Service", "Job"))
PROPERTIES = "org.freedesktop.DBus.Properties"
CLD_EXITED, CLD_KILLED = 1, 2


class NoSuchUnit(dbus.DBusException):
    _dbus_error_name = f"{NAME}.NoSuchUnit"


class Denied(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"


class Masked(dbus.DBusException):
    _dbus_error_name = f"{NAME}.UnitMasked"


def escape(name):
    """A unit's name in an object path."""
    return "".join(char if char.isalnum() else f"_{ord(char):02x}" for char in name)


def no_job():
    return dbus.Struct((dbus.UInt32(0), dbus.ObjectPath("/")), signature=None)


class Object(dbus.service.Object):
    """An object with properties: .values is {interface: {name: value}}."""

    def __init__(self, connection, path, values):
        super().__init__(connection, path)
        self.values = values

    @dbus.service.method(PROPERTIES, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        for one in ([interface] if interface else self.values):
            if name in self.values.get(one, {}):
                return self.values[one][name]
        raise dbus.DBusException(f"Unknown property {name}", name="org.freedesktop.DBus.Error.UnknownProperty")

    @dbus.service.method(PROPERTIES, in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        if interface:
            return self.values.get(interface, {})
        return {name: value for one in self.values.values() for name, value in one.items()}

    @dbus.service.signal(PROPERTIES, signature="sa{sv}as")
    def PropertiesChanged(self, interface, changed, invalidated):
        pass

    def change(self, interface, **values):
        self.values[interface].update(values)
        if self.manager.subscribed:
            self.PropertiesChanged(interface, values, dbus.Array([], signature="s"))


class Job(Object):
    def __init__(self, manager, number, kind, unit):
        self.manager = manager
        self.path = dbus.ObjectPath(f"{ROOT}/job/{number}")
        super().__init__(manager.bus, self.path, {JOB: {
            "Id": dbus.UInt32(number), "JobType": kind, "State": "running",
            "Unit": dbus.Struct((unit.name, unit.path))}})
        self.number, self.kind, self.unit = number, kind, unit


class Unit(Object):
    def __init__(self, manager, name, part_of=()):
        self.manager, self.name, self.part_of = manager, name, part_of
        self.path = dbus.ObjectPath(f"{ROOT}/unit/{escape(name)}")
        now = self.now()
        super().__init__(manager.bus, self.path, {
            UNIT: {"Id": name, "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
                   "UnitFileState": "enabled", "Job": no_job(), "ActiveEnterTimestamp": now,
                   "InactiveEnterTimestamp": dbus.UInt64(0), "StateChangeTimestamp": now,
                   "Names": dbus.Array([name], signature="s"),
                   "FragmentPath": f"/usr/lib/systemd/system/{name}", "NeedDaemonReload": False},
            SERVICE: {"Type": "simple", "Restart": "on-failure", "Result": "success", "MainPID": dbus.UInt32(4242),
                      "ExecMainPID": dbus.UInt32(4242), "ExecMainStartTimestamp": now,
                      "ExecMainExitTimestamp": dbus.UInt64(0), "ExecMainCode": dbus.Int32(0),
                      "ExecMainStatus": dbus.Int32(0), "NRestarts": dbus.UInt32(0)},
        })

    @staticmethod
    def now():
        return dbus.UInt64(time.time_ns() // 1000)

    @property
    def active(self):
        return self.values[UNIT]["ActiveState"]

    def go(self, active, sub):
        now, values = self.now(), {"ActiveState": active, "SubState": sub}
        values["StateChangeTimestamp"] = now
        if active == "active":
            values["ActiveEnterTimestamp"] = now
        elif active in ("inactive", "failed"):
            values["InactiveEnterTimestamp"] = now
        self.change(UNIT, **values)

    def ended(self, code, status, result):
        self.change(SERVICE, ExecMainCode=dbus.Int32(code), ExecMainStatus=dbus.Int32(status), Result=result,
                    ExecMainExitTimestamp=self.now(), MainPID=dbus.UInt32(0))

    def began(self):
        self.change(SERVICE, MainPID=dbus.UInt32(4243), ExecMainPID=dbus.UInt32(4243), Result="success",
                    ExecMainStartTimestamp=self.now(), ExecMainExitTimestamp=dbus.UInt64(0),
                    ExecMainCode=dbus.Int32(0), ExecMainStatus=dbus.Int32(0))


class Polkit(dbus.service.Object):
    """Allows what the package's rule allows, to whomever: the restart of ecs.service."""

    def __init__(self, bus):
        super().__init__(bus, "/org/freedesktop/PolicyKit1/Authority")
        self.bus, self.denied = bus, False
        self.name = dbus.service.BusName(POLKIT, bus)

    def turn(self, way):
        self.denied = way == "deny"
        self.name = None if way == "off" else self.name or dbus.service.BusName(POLKIT, self.bus)

    @dbus.service.method(POLKIT + ".Authority", in_signature="(sa{sv})sa{ss}us", out_signature="(bba{ss})")
    def CheckAuthorization(self, subject, action, details, flags, cancellation):
        tell({"event": "CheckAuthorization", "subject": str(subject[0]), "pid": int(subject[1].get("pid", 0)),
              "action": str(action), **{str(key): str(value) for key, value in details.items()}})
        allowed = not self.denied and action == NAME + ".manage-units" and details == {
            "unit": "ecs.service", "verb": "restart"}
        return dbus.Struct((allowed, False, dbus.Dictionary({}, signature="ss")), signature=None)


class Manager(Object):
    def __init__(self, bus):
        self.bus, self.manager = bus, self
        self.subscribed = False
        self.denied = self.broken = False
        self.seconds = 0.2           # how long a job runs
        self.job_number = 100
        super().__init__(bus, ROOT, {MANAGER: {"Version": "252", "SystemState": "running"}})
        self.units = {}
        self.polkit = Polkit(bus)
        self.add("docker.service")
        self.add("ecs.service", part_of=("docker.service",))

    def add(self, name, part_of=()):
        self.units[name] = Unit(self, name, part_of)

    # -- D-Bus ---------------------------------------------------------------------------------------------

    def _unit(self, name):
        if name not in self.units:
            raise NoSuchUnit(f"Unit {name} not loaded.")
        return self.units[name]

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def GetUnit(self, name):
        return self._unit(name).path

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def LoadUnit(self, name):
        if name not in self.units:
            self.add(str(name))
            self.units[name].values[UNIT].update(LoadState="not-found", ActiveState="inactive", SubState="dead",
                                                 UnitFileState="", FragmentPath="")
        return self.units[name].path

    @dbus.service.method(MANAGER, in_signature="s", out_signature="s")
    def GetUnitFileState(self, name):
        return self._unit(name).values[UNIT]["UnitFileState"]

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        self.subscribed = True

    @dbus.service.method(MANAGER)
    def Unsubscribe(self):
        self.subscribed = False

    def _asked(self, what, name, mode, kind):
        tell({"event": what, "unit": str(name), "mode": str(mode), "denied": self.denied})
        if self.denied:
            raise Denied("Interactive authentication required.")
        unit = self._unit(name)
        if unit.values[UNIT]["LoadState"] == "masked":
            raise Masked(f"Unit {name} is masked.")
        return self.job(unit, kind).path

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def RestartUnit(self, name, mode):
        return self._asked("RestartUnit", name, mode, "restart")

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, name, mode):
        return self._asked("StartUnit", name, mode, "start")

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        return self._asked("StopUnit", name, mode, "stop")

    @dbus.service.signal(MANAGER, signature="uos")
    def JobNew(self, number, job, unit):
        pass

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    # -- jobs ----------------------------------------------------------------------------------------------

    def job(self, unit, kind, seconds=None):
        self.job_number += 1
        job = Job(self, self.job_number, kind, unit)
        unit.change(UNIT, Job=dbus.Struct((dbus.UInt32(job.number), job.path)))
        if self.subscribed:
            self.JobNew(job.number, job.path, unit.name)
        if kind in ("stop", "restart") and unit.active == "active":
            unit.go("deactivating", "stop")
            for other in self.units.values():
                if unit.name in other.part_of and other.active == "active":
                    self.job(other, kind, seconds)
        elif kind == "start":
            unit.go("activating", "start")
        GLib.timeout_add(int(1000 * (self.seconds if seconds is None else seconds)), self.finish, job)
        return job

    def finish(self, job):
        unit, result = job.unit, "done"
        if job.kind == "stop":
            unit.ended(CLD_EXITED, 0, "success")
            unit.go("inactive", "dead")
        elif self.broken:
            result = "failed"
            unit.ended(CLD_EXITED, 1, "exit-code")
            unit.go("failed", "failed")
        else:
            unit.began()
            unit.go("active", "running")
            tell({"event": "started", "unit": unit.name})
        unit.change(UNIT, Job=no_job())
        if self.subscribed:
            self.JobRemoved(job.number, job.path, unit.name, result)
        job.remove_from_connection()
        return False

    # -- commands ------------------------------------------------------------------------------------------

    def command(self, words, text):
        name, rest = words[0], words[1:]
        if name == "status":
            return {one.name: {"active": str(one.active), "sub": str(one.values[UNIT]["SubState"])}
                    for one in self.units.values()}
        if name in ("deny", "break"):
            setattr(self, {"deny": "denied", "break": "broken"}[name], rest[0] == "on")
            return {}
        if name == "polkit":
            self.polkit.turn(rest[0])
            return {}
        unit = self._unit(rest[0])
        if name in ("stop", "start", "restart"):
            self.job(unit, name, float(rest[1]) if rest[1:] else None)
        elif name == "exit":
            status = int(rest[1])
            unit.ended(CLD_EXITED, status, "exit-code" if status else "success")
            unit.go(*(("failed", "failed") if status else ("inactive", "dead")))
        elif name == "kill":
            unit.ended(CLD_KILLED, int(rest[1]), "signal")
            unit.go("activating", "auto-restart")
            unit.change(SERVICE, NRestarts=dbus.UInt32(unit.values[SERVICE]["NRestarts"] + 1))
        elif name in ("disable", "enable"):
            unit.change(UNIT, UnitFileState=name + "d")
        elif name in ("mask", "unmask"):
            masked = name == "mask"
            unit.change(UNIT, UnitFileState="masked" if masked else "enabled",
                        LoadState="masked" if masked else "loaded")
        elif name == "set":
            value = json.loads(text.split(" ", 3)[3])
            interface = UNIT if rest[1] in unit.values[UNIT] else SERVICE
            unit.change(interface, **{rest[1]: type(unit.values[interface].get(rest[1], value))(value)})
        elif name == "forget":
            unit.remove_from_connection()
            del self.units[rest[0]]
        else:
            raise ValueError(f"no such command: {name}")
        return {}


def tell(what):
    print(json.dumps(what), flush=True)


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    bus = dbus.bus.BusConnection(sys.argv[1])
    own_name = dbus.service.BusName(NAME, bus)  # given up when it is collected
    manager = Manager(bus)

    pending = bytearray()

    def on_input(*_):
        data = os.read(0, 4096)
        if not data:
            loop.quit()
            return False
        pending.extend(data)
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            text = line.decode()
            try:
                tell({"ok": True, **manager.command(text.split(), text)})
            except (ValueError, IndexError, KeyError, dbus.DBusException) as error:
                tell({"ok": False, "error": str(error)})
        return True

    GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, on_input)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    tell({"ok": True, "name": own_name.get_name()})
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
