#!/usr/bin/env python3
"""steps.py PREPARED WORK PROGRAMS PACKAGES GUIDE - what a door on a Raspberry Pi must do.

Covers everything from enrolment to upgrade, observed from outside. PREPARED is from prepare.sh,
WORK a folder with the card of image.sh and its `key`; PROGRAMS has door-hub and doorctl, PACKAGES
the package of door-agent for arm64 and two newer ones. Prints a line for each step, with its
observations, and exits with status 1 at the first failure; WORK then contains the hub's log, the
consoles and the Pi's journal. `deploy/pi/test` calls it.
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from machine import Failed, Machine, Watch, until
from schedules import Schedules
from surroundings import (
    DOOR,
    FILE,
    HOST_SEEN_FROM_PI,
    Site,
    Time,
    Wires,
    command_of_guide,
    exposure,
    free_port,
    gaps,
)

UNIT = f"door-agent@{DOOR}.service"
EXPOSURE = 1.6
COIL = Wires.COIL

SETTINGS = """\
[door]
# Released without power and without a command, so that an energised coil is always the result of a
# command.
relinquish_default = "released"
egress = "hardware-release"
strike_time = "3s"

[strike]
kind = "maglock"

[board]
kind = "raspberry-pi"

[board.outputs]
coil = { pin = 17, active = "high" }

[board.inputs]
door = { pin = 22, active = "low", bias = "pull-up" }
bond = { pin = 23, active = "low", bias = "pull-up" }
rex = { pin = 24, active = "low", bias = "pull-up" }
fire = { pin = 5, active = "high", bias = "pull-up" }
fire_reset = { pin = 6, active = "low", bias = "pull-up" }
"""


class Run(Schedules):
    """The site, its Pi, and the steps in order."""

    def __init__(self, prepared, work, programs, packages, guide):
        self.work, self.packages, self.guide = work, packages, guide
        self.pi = Machine(prepared, work, work / "key", free_port())
        self.site = Site(work, programs)
        self.time = Time()
        self.wires = Wires(self.pi)

    # Helpers of several steps.

    def door_status(self):
        """The door's status from the Pi, not through the hub."""
        return json.loads(
            self.pi.ssh(f"door-agent status --json --config {FILE}")
        )

    def status_or_none(self):
        """The same, or None while no agent answers."""
        try:
            return self.door_status()
        except Failed:
            return None

    def unit(self, *properties):
        output = self.pi.ssh(
            f"systemctl show {UNIT} " + " ".join(f"-p {name}" for name in properties)
        )
        return dict(line.split("=", 1) for line in output.splitlines())

    def process(self):
        return self.unit("MainPID")["MainPID"]

    def slots(self):
        return slots_of(self.door_status())

    def connected(self, within=120):
        return self.site.until_reported(
            "the door's connection to the hub", DOOR, lambda reported: reported["connected"], within
        )

    def linked(self):
        """The same, as the door sees it: the hub may not have noticed yet that it was away."""
        until(
            "the door's own connection",
            lambda: (self.status_or_none() or {"link": {}})["link"].get("state") == "connected",
            120,
        )

    def clock_is_set(self):
        until(
            "the Pi's clock",
            lambda: self.pi.ssh(
                "test -e /run/systemd/timesync/synchronized && echo set", check=False
            )
            == "set",
            120,
            1,
        )

    def clock_is_trusted(self):
        """Without it a release with a notAfter is refused."""
        self.clock_is_set()
        until(
            "the agent's trust in the clock",
            lambda: (self.status_or_none() or {"door": {"clock": "unsynchronized"}})["door"][
                "clock"
            ]
            != "unsynchronized",
            60,
        )

    def leave_alone(self):
        """Neither hub nor time answer."""
        self.site.close()
        self.time.speaks = False

    def lock(self, length, status=0):
        """A job, as an operator starts it; returns its doors as in the export."""
        output = self.site.doorctl(
            ["jobs", "lock", DOOR, "--for", length, "--watch", "-o", "json"], expect=status
        )
        return json.loads(output)

    def until_level(self, high, within=10):
        what = f"BCM {COIL} {'energised' if high else 'de-energised'}"

        def seen():
            # A pin that nobody drives is an input, and pulled to the level that is off.
            is_driven = self.pi.is_output(COIL) or not high
            return is_driven and self.pi.level(COIL) == high

        until(what, seen, within, 0.02)

    def let_out(self):
        """Presses the exit button until the door releases, soon; it locks again by itself."""
        self.wires.hold(Wires.REX)
        self.until_level(False, 3)
        self.wires.let_go(Wires.REX)
        self.until_level(True, 10)

    def events(self, kind):
        return [event for event in self.site.events() if event["kind"] == kind]

    def nothing_missing(self):
        """Asserts that every event of every boot has arrived; returns their count."""
        until(
            "the Pi's events on their way",
            lambda: (self.status_or_none() or {}).get("waitingEvents") == 0,
            60,
        )
        events = self.site.events()
        lost = [event for event in events if event["kind"] == "eventsLost"]
        missing = gaps(events)
        if missing or lost:
            raise Failed(f"missing events: {missing}, dropped events: {lost}")
        return len(events)

    # The steps.

    def enrolment(self):
        """Not one of the nine: the enrolment, by the guide's own command."""
        self.site.found()
        self.site.open()
        self.site.doorctl(self.site.context())
        (self.work / f"{DOOR}.toml").write_text(SETTINGS)
        self.time.speaks = True
        self.pi.power_on(self.wires.levels())
        self.pi.until_ssh()
        self.clock_is_set()
        began = time.monotonic()
        command = command_of_guide(self.guide, "doorctl devices enroll ")
        if f" {DOOR} " not in f" {' '.join(command)} ":
            raise Failed(f"the guide enrols another door than {DOOR}: {' '.join(command)}")
        host = next(word for word in command if word.startswith("pi@"))
        command = ["pi@127.0.0.1" if word == host else word for word in command[1:]]
        options = [word for option in self.pi.ssh_options() for word in ("--ssh-option", option)]
        package = next(self.packages.glob("door-agent_*_arm64.deb"))
        command += [
            "--package",
            str(package),
            "--hub-host",
            HOST_SEEN_FROM_PI,
            "--ssh-port",
            str(self.pi.ssh_port),
            *options,
        ]
        self.site.doorctl(command, within=400, echo=True)
        old = self.process()
        self.site.doorctl(command, within=200)
        if self.process() != old:
            raise Failed("a second enrolment restarted the door")
        took = time.monotonic() - began
        self.by_hand()
        return (
            f"doorctl {' '.join(command[:6])} ...: {package.name} installed, {DOOR} reports, in"
            f" {took:.0f} s with a second time that changes nothing; so does door-agent install"
        )

    def by_hand(self):
        """The same at the Pi itself, with a connection string from an operator."""
        self.site.doorctl(
            ["devices", "connection-string", DOOR, "--out", "by-hand.connection-string"]
        )
        file = self.work / "by-hand.connection-string"
        file.write_text(
            file.read_text().replace("HostName=localhost;", f"HostName={HOST_SEEN_FROM_PI};")
        )
        self.pi.ssh("install -d -m 700 -o pi /tmp/by-hand")
        self.pi.send(file, "/tmp/by-hand/connection-string")
        self.pi.send(self.site.data / "ca.pem", "/tmp/by-hand/ca.pem")
        printed = self.pi.ssh(
            f"door-agent install {DOOR} --connection-string /tmp/by-hand/connection-string"
            " --ca /tmp/by-hand/ca.pem && rm -r /tmp/by-hand",
            within=200,
        )
        if "is running and not restarted" not in printed or "hub connected" not in printed:
            raise Failed(f"door-agent install: {printed}")

    def boot(self):
        self.pi.power_off()
        self.pi.power_on(self.wires.levels())
        with Watch(self.pi, COIL) as watch:
            # systemd prints this on the console once the agent is ready.
            until("READY", lambda: "Started door-agent@" in self.pi.console_says(), 240, 0.02)
            ready_at = time.monotonic()
            if not self.pi.is_output(COIL):
                raise Failed(f"READY before BCM {COIL} was an output: {watch.changes}")
            self.pi.until_ssh()
            self.connected()
            connected_at = time.monotonic()
            self.clock_is_trusted()
            if any(watch.levels()):
                raise Failed(
                    f"BCM {COIL} was energised between power-on and the first command:"
                    f" {watch.changes}"
                )
        driven_at = next(at for at, output, _ in watch.changes if output)
        unit = self.unit(
            "ExecMainStartTimestampMonotonic",
            "ActiveEnterTimestampMonotonic",
            "MemoryCurrent",
            "MainPID",
        )
        start = (
            int(unit["ActiveEnterTimestampMonotonic"])
            - int(unit["ExecMainStartTimestampMonotonic"])
        ) / 1e6
        status = self.pi.ssh(f"cat /proc/{unit['MainPID']}/status")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        score = exposure(self.pi.ssh(f"systemd-analyze security --no-pager {UNIT} | tail -1"))
        if score > EXPOSURE:
            raise Failed(f"systemd-analyze security gives {score}, expected at most {EXPOSURE}")
        since = self.pi.powered_on
        return (
            f"power on, BCM {COIL} an output and low after {driven_at - since:.1f} s, READY after"
            f" {ready_at - since:.1f} s ({start:.2f} s from its start), connected after"
            f" {connected_at - since:.1f} s, never energised; memory {int(peak) / 1024:.1f} MiB at"
            f" its peak, security {score}"
        )

    def job(self):
        before = self.pi.level(COIL)
        secured = self.lock("10m")
        if before or not self.pi.level(COIL):
            raise Failed(
                f"BCM {COIL} was {before} before the job, and is {self.pi.level(COIL)} after it"
            )
        reported = self.site.until_reported(
            "a secured door", DOOR, lambda reported: reported["door"]["secured"] == "secured"
        )["door"]
        if reported["proof"] != "bond":
            raise Failed(f"the proof is {reported['proof']}, expected bond")
        self.site.doorctl(["relinquish", DOOR])
        self.until_level(False)
        self.wires.holds = False
        jammed = self.lock("10m", status=2)
        if "jammed" not in json.dumps(jammed):
            raise Failed(f"without a bond the job has another outcome: {jammed}")
        self.site.until_reported(
            "the alarm jammed", DOOR, lambda reported: "jammed" in reported["door"]["alarms"]
        )
        self.wires.holds = True
        self.lock("10m")
        self.site.until_reported(
            "no alarm any more", DOOR, lambda reported: not reported["door"]["alarms"]
        )
        return (
            f"lockDoor energised BCM {COIL}, BCM {Wires.BOND} proved it: {outcome(secured)};"
            f" without that: {outcome(jammed)}, alarm jammed, cleared by the next proven lock"
        )

    def edges(self):
        before = self.interrupts()
        presses, earlier = 10, len(self.events("requestToExit"))
        for _ in range(presses):
            # Shorter than the second after which levels are read anyway: that alone would miss half
            # of the presses.
            self.wires.press(Wires.REX, 0.5)
            time.sleep(1.2)
        until(
            f"{presses} short presses of the exit button at the hub",
            lambda: len(self.events("requestToExit")) == earlier + presses,
            30,
        )
        self.until_level(True)
        time.sleep(2.5)
        self.site.until_reported(
            "a secured door", DOOR, lambda reported: reported["door"]["secured"] == "secured"
        )
        self.wires.door(True)
        self.site.until_reported(
            "the alarm forcedOpen",
            DOOR,
            lambda reported: "forcedOpen" in reported["door"]["alarms"]
            and reported["door"]["doorState"] == "open",
        )
        until(
            "the event of the opened door",
            lambda: any(event["doorState"] == "open" for event in self.events("doorState")),
            30,
        )
        until(
            "the event of its alarm",
            lambda: any(event["alarm"] == "forcedOpen" for event in self.events("alarmRaised")),
            30,
        )
        self.wires.door(False)
        self.site.until_reported(
            "a door closed and secured",
            DOOR,
            lambda reported: not reported["door"]["alarms"]
            and reported["door"]["secured"] == "secured",
        )
        interrupts = self.interrupts() - before
        if interrupts < 2 * presses:
            raise Failed(
                f"{interrupts} interrupts for {presses} presses and a door: some levels were read"
                " only by polling"
            )
        return (
            f"{presses} presses of 500 ms at the hub by {interrupts} interrupts; opened by force:"
            " doorState open, alarmRaised forcedOpen, cleared when closed"
        )

    def character_device(self):
        """The same pins by the other board, [board] kind = "gpio"."""
        self.site.doorctl(["relinquish", DOOR])
        self.until_level(False)
        self.pi.ssh(
            f"cp -p {FILE} /root/raspberry-pi.toml && systemctl stop {UNIT} && sed -i"
            """ -e 's/^kind = "raspberry-pi"/kind = "gpio"\\nchip = "pinctrl-bcm2835"/'"""
            """ -e 's/^door = {/& debounce = "200ms",/'"""
            f""" -e 's/pin = {COIL}/line = "GPIO{COIL}"/' -e 's/pin = /line = /' {FILE}"""
        )
        with Watch(self.pi, COIL) as watch:
            self.line_held()
            self.linked()
            self.clock_is_trusted()
            if any(watch.levels()):
                raise Failed(f"BCM {COIL} was energised without a command: {watch.changes}")
        secured = self.lock("30m")
        pressed, interrupts = self.debounced()
        self.let_out()
        self.wires.fire(True)
        self.until_level(False, 3)
        self.wires.fire(False)
        # The key counts once it was idle after the fire.
        time.sleep(1)
        self.wires.press(Wires.FIRE_RESET, 2)
        self.until_level(True, 5)
        self.line_unreadable()
        hold, old = self.slots()[8], self.process()
        with Watch(self.pi, COIL) as killed:
            began = time.monotonic()
            self.pi.ssh(f"kill -9 {old}")
            until("another process of the agent", lambda: self.process() not in (old, "0"), 60)
            self.until_level(True, 60)
        if killed.levels() != [True, False, True] or killed.changes[1][1]:
            raise Failed(
                f"after kill -9 BCM {COIL} went {killed.changes}, expected that the kernel makes"
                " it an input before it is driven low"
            )
        freed = killed.changes[1][0] - began
        self.same_hold(hold)
        self.unreadable(hold)
        polled = self.pi.ssh(f"journalctl -b -u {UNIT} -o cat | grep polled", check=False)
        if polled:
            raise Failed(f"the kernel gives no edges or no debounce: {polled}")
        self.linked()
        return (
            f"a line that gpiomon holds: named by check and log; lockDoor: {outcome(secured)};"
            f" {pressed} presses by {interrupts} interrupts, 5 openings of 40 ms debounced; exit"
            " button and fire release; a contact that cannot be read: unreadable, sensorFault;"
            f" kill -9: the kernel freed BCM {COIL} within {freed:.1f} s, and then as by registers"
        )

    def line_held(self):
        """A line that another program holds stops the agent, with the name of that program."""
        # By the kernel's own name of the chip, which gpiomon requires: /init has renamed it.
        self.pi.ssh(
            "chip=$(ls /sys/bus/gpio/devices | tail -n 1)"
            " && mknod /root/$chip c $(tr : ' ' </sys/bus/gpio/devices/$chip/dev)"
            f" && systemd-run --quiet --unit=holder gpiomon /dev/../root/$chip {Wires.REX}"
        )
        held = f'cannot use line {Wires.REX} of gpiochip0 as rex: held by "gpiomon"'
        check = f"door-agent check --config {FILE}"
        until("WRONG from check", lambda: held in self.pi.ssh(check, check=False), 30)
        self.pi.ssh(f"systemctl start --no-block {UNIT}")
        log = f"journalctl -b -u {UNIT} -o cat"
        until("the holder in the log", lambda: held in self.pi.ssh(log), 30)
        self.pi.ssh(f"systemctl stop {UNIT} holder")
        free = f'line {COIL} of gpiochip0 ("GPIO{COIL}") as coil, free'
        checked = self.pi.ssh(check, check=False)
        if free not in checked or "WRONG  pins" in checked:
            raise Failed(f"check with free lines: {checked}")
        self.pi.ssh(f"systemctl start {UNIT}")

    def debounced(self):
        """Presses and openings through the kernel; returns the presses and their interrupts."""
        before, presses = self.interrupts(), 3
        earlier = len(self.events("requestToExit"))
        for _ in range(presses):
            self.wires.press(Wires.REX, 0.5)
            time.sleep(1.2)
        until(
            f"{presses} short presses of the exit button at the hub",
            lambda: len(self.events("requestToExit")) == earlier + presses,
            30,
        )
        interrupts = self.interrupts() - before
        if interrupts < 2 * presses:
            raise Failed(f"{interrupts} interrupts for {presses} presses")
        self.until_level(True)
        time.sleep(2.5)
        openings = len(self.events("doorState"))
        for _ in range(5):
            # Shorter than the 200 ms of its debounce.
            self.pi.drive(Wires.DOOR, True)
            time.sleep(0.04)
            self.pi.drive(Wires.DOOR, False)
            time.sleep(0.4)
        self.wires.door(True)
        self.site.until_reported(
            "the alarm forcedOpen",
            DOOR,
            lambda reported: "forcedOpen" in reported["door"]["alarms"]
            and reported["door"]["doorState"] == "open",
        )
        until(
            "the event of the opened door", lambda: len(self.events("doorState")) > openings, 30
        )
        if len(self.events("doorState")) != openings + 1:
            became = self.events("doorState")[openings:]
            raise Failed(f"chatter of the door became events: {became}")
        self.wires.door(False)
        self.site.until_reported(
            "a door closed and secured",
            DOOR,
            lambda reported: not reported["door"]["alarms"]
            and reported["door"]["secured"] == "secured",
        )
        return presses, interrupts

    def line_unreadable(self):
        """A contact that the chip cannot read is unknown and a fault, not open or closed."""
        parameter = "/sys/module/pi_edges/parameters/unreadable"
        self.pi.ssh(f"echo {1 << Wires.DOOR} >{parameter}")
        self.site.until_reported(
            "the alarm sensorFault",
            DOOR,
            lambda reported: "sensorFault" in reported["door"]["alarms"]
            and reported["door"]["doorState"] == "unknown",
        )
        seen = self.door_status()["door"]["inputs"]["door"]
        if seen != "unreadable":
            raise Failed(f"an input that cannot be read is {seen} in the status")
        self.pi.ssh(f"echo 0 >{parameter}")
        self.site.until_reported(
            "a door that can be read again",
            DOOR,
            lambda reported: not reported["door"]["alarms"]
            and reported["door"]["secured"] == "secured",
        )

    def interrupts(self):
        counts = [
            line.split()[1:5]
            for line in self.pi.ssh("cat /proc/interrupts").splitlines()
            if "pi_edges" in line
        ]
        return sum(int(count) for line in counts for count in line if count.isdigit())

    def cut_off(self):
        self.pi.link(False)
        time.sleep(2)
        before = len(self.site.events())
        with Watch(self.pi, COIL) as watch:
            self.let_out()
            self.wires.fire(True)
            self.until_level(False, 3)
            self.wires.fire(False)
            # Latched: the fire is over, and it was not reset at the door.
            time.sleep(4)
            if self.pi.level(COIL):
                raise Failed("the door locked again before the fire release was reset")
            self.wires.press(Wires.FIRE_RESET, 2)
            self.until_level(True, 5)
        if len(self.site.events()) != before:
            raise Failed("the hub received events although the network was cut")
        self.pi.link(True)
        for kind in ("requestToExit", "fireRelease", "fireReset"):
            until(
                f"the event {kind} at the hub",
                lambda kind=kind: any(
                    event["kind"] == kind for event in self.site.events()[before:]
                ),
                150,
                1,
            )
        events = self.nothing_missing()
        levels = "".join("+" if high else "-" for high in watch.levels())
        return (
            f"without a network BCM {COIL} went {levels} for exit button, fire release and reset;"
            f" {len(self.site.events()) - before} events came later, none of {events} is missing"
        )

    def killed(self):
        self.lock("30m")
        hold, old = self.slots()[8], self.process()
        with Watch(self.pi, COIL) as watch:
            self.pi.ssh(f"kill -9 {old}")
            until("another process of the agent", lambda: self.process() not in (old, "0"), 60)
            self.until_level(True, 60)
        if watch.levels() != [True, False, True]:
            raise Failed(
                f"after kill -9 BCM {COIL} went {watch.levels()}, expected high, low, high"
            )
        _, off_at, on_at = (at for at, _ in watch.edges())
        self.same_hold(hold)
        old = self.process()
        with Watch(self.pi, COIL) as stopped:
            began = time.monotonic()
            self.pi.ssh(f"kill -STOP {old}")
            self.until_level(False, 60)
            after = time.monotonic() - began
            until("another process of the agent", lambda: self.process() not in (old, "0"), 60)
            self.until_level(True, 60)
        self.same_hold(hold)
        self.unreadable(hold)
        self.connected()
        return (
            f"kill -9: BCM {COIL} de-energised, {on_at - off_at:.1f} s later held again until"
            f" {hold['until']}; SIGSTOP: the watchdog ended it after {after:.1f} s, and the hold is"
            " the same; killed with settings that cannot be read: de-energised too"
        )

    def unreadable(self, hold):
        """Killed with unreadable settings: no agent starts, and the pins are de-energised."""
        self.pi.ssh(
            f"cp -p {FILE} /root/settings && echo '[board' >>{FILE} && kill -9 {self.process()}"
        )
        self.until_level(False, 60)
        # Longer than the two seconds after which systemd restarts it.
        time.sleep(5)
        if self.pi.level(COIL):
            raise Failed(f"BCM {COIL} is energised without an agent")
        self.pi.ssh(f"mv /root/settings {FILE}")
        self.until_level(True, 60)
        self.same_hold(hold)

    def same_hold(self, hold):
        now = until("the door's status", lambda: self.slots_or_none(), 60)
        if (
            not now.get(8)
            or now[8]["commandId"] != hold["commandId"]
            or now[8]["want"] != hold["want"]
        ):
            raise Failed(f"slot 8 has {now.get(8)}, expected {hold}")
        return now[8]

    def slots_or_none(self):
        return slots_of(self.status_or_none())

    def power_cuts(self):
        # During a hold: right after the answer to doorctl.
        self.lock("40m")
        self.pi.power_cut()
        hold = {"commandId": self.last_job(), "want": "locked"}
        self.pi.power_on(self.wires.levels())
        self.pi.until_ssh()
        self.until_level(True, 60)
        kept = self.same_hold(hold)
        self.connected()
        self.clock_is_trusted()
        after_hold = self.nothing_missing()
        # From here on by registers again.
        self.pi.ssh(f"mv /root/raspberry-pi.toml {FILE}; door-agent restart --force {DOOR}")
        self.until_level(True, 60)
        self.linked()

        # During a burst of events; the Pi comes back two hours later with a wrong clock.
        self.site.doorctl(["relinquish", DOOR])
        self.site.doorctl(["unlock", DOOR, "--for", "30m"])
        self.lock("40m")
        hold = {"commandId": self.last_job(), "want": "locked"}
        self.pi.ssh("rm -f /var/lib/systemd/timesync/clock; sync")
        for _ in range(12):
            self.wires.press(Wires.REX, 0.1)
            self.wires.door(True)
            time.sleep(0.35)
            self.wires.door(False)
            time.sleep(0.35)
        self.pi.power_cut()
        self.leave_alone()
        self.time.later = self.site.later = 2 * 3600
        self.site.open()
        self.pi.power_on(self.wires.levels())
        self.pi.until_ssh()
        self.until_level(True, 60)
        self.same_hold(hold)
        if 7 in self.slots():
            raise Failed("a grant that a lock had ended is active again")
        until("a token that the hub refuses", lambda: self.refusals() > 0, 90, 1)
        status = self.door_status()
        if status["link"]["state"] == "connected" or status["door"]["clock"] != "unsynchronized":
            raise Failed(
                f"without a clock the link is {status['link']} and the clock"
                f" {status['door']['clock']}"
            )
        with Watch(self.pi, COIL) as watch:
            self.let_out()
        asked = self.time.asked
        self.time.speaks = True
        came = time.monotonic()
        self.clock_is_set()
        was_set = time.monotonic()
        self.connected(180)
        took = time.monotonic() - was_set
        after_burst = self.nothing_missing()
        if self.door_status()["door"]["clock"] == "unsynchronized":
            raise Failed("the clock is set but not trusted")
        return (
            "cut at the answer of a lock, by the character device: slot 8 locked"
            f"{until_text(kept)}, none of {after_hold} events missing; cut in a burst, back 2 h"
            " later without a clock: slot 8 locked, exit"
            f" button works ({len(watch.levels())} levels), its token refused; time came after"
            f" {asked} questions, the clock was set {was_set - came:.0f} s later, and it connected"
            f" within {took:.0f} s, none of {after_burst} events missing"
        )

    def refusals(self):
        """Connections refused by the hub since its start, from its metrics."""
        metrics = self.site.get("/metrics", self.site.token("/metrics"))
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in metrics.splitlines()
            if line.startswith("door_hub_connections_refused_total")
        )

    def last_job(self):
        jobs = json.loads(self.site.doorctl(["jobs", "list", "-o", "json"]))
        return jobs[0]["jobId"]

    def upgrades(self):
        first, second = sorted(self.packages.glob("newer/*.deb"))
        self.site.doorctl(["relinquish", DOOR])
        self.site.doorctl(["unlock", DOOR, "--for", "1h"])
        self.until_level(False)
        old = self.process()
        with Watch(self.pi, COIL) as released:
            output = self.install(first)
            new = self.process()
        if new == old or any(released.levels()):
            raise Failed(
                f"released (de-energised) at an upgrade: process {old} then {new}, BCM {COIL} went"
                f" {released.levels()}: {output}"
            )
        if "released" not in json.dumps(
            until("the door's status", self.slots_or_none, 60).get(7, {})
        ):
            raise Failed(f"the grant is gone after the upgrade: {self.slots()}")
        self.connected()
        self.lock("1h")
        old = self.process()
        with Watch(self.pi, COIL) as held:
            output = self.install(second)
            new = self.process()
        if new != old or not all(held.levels()):
            raise Failed(
                f"held by power at an upgrade: process {old} then {new}, BCM {COIL} went"
                f" {held.levels()}: {output}"
            )
        if f"to finish the upgrade: door-agent restart {DOOR}" not in output:
            raise Failed(f"the package does not print how to finish the upgrade: {output}")
        if not self.pi.ssh(f"readlink /proc/{new}/exe").endswith("(deleted)"):
            raise Failed("the old process does not run the old program")
        self.pi.ssh(f"door-agent restart --force {DOOR}")
        until(
            "the new program",
            lambda: not self.pi.ssh(f"readlink /proc/{self.process()}/exe", check=False).endswith(
                "(deleted)"
            ),
            60,
        )
        self.until_level(True, 60)
        events = self.nothing_missing()
        return (
            f"released: restarted, BCM {COIL} low throughout, the grant kept; locked: the old"
            f" process goes on, BCM {COIL} high throughout, and `door-agent restart --force`"
            f" finishes it; none of {events} events missing"
        )

    def install(self, package):
        self.pi.send(package, "/tmp/door-agent.deb")
        return self.pi.ssh(
            "DEBIAN_FRONTEND=noninteractive apt-get install -y /tmp/door-agent.deb 2>&1", within=300
        )

    def evidence(self):
        """Saves the journal, which explains a failure."""
        try:
            (self.work / "journal.log").write_text(
                self.pi.ssh("journalctl -b --no-pager -o short-monotonic", within=60)
            )
        except (Failed, OSError, subprocess.SubprocessError):
            pass


def slots_of(status):
    """The slots in the door's own status, by number."""
    return status and {slot["slot"]: slot for slot in status["door"]["slots"]}


def outcome(rows):
    """The outcome of a job for its door."""
    return rows[0]["outcome"] if isinstance(rows, list) else rows["doors"][0]["outcome"]


def until_text(slot):
    return f" until {slot['until']}" if slot.get("until") else " for what was left of it"


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    try:
        run = Run(*(Path(argument).resolve() for argument in sys.argv[1:]))
    except Failed as failure:
        sys.exit(f"deploy/pi/test: {failure}")
    steps = [
        ("0", run.enrolment),
        ("1", run.boot),
        ("2", run.job),
        ("3", run.edges),
        ("4", run.cut_off),
        ("5", run.killed),
        ("6", run.schedules),
        ("7", run.character_device),
        ("8", run.power_cuts),
        ("9", run.upgrades),
    ]
    began = time.monotonic()
    threading.excepthook = lambda problem: None
    # If this process is ended, the Pi and the hub end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for number, step in steps:
            at = time.monotonic()
            print(f"{number}. {step()} [{time.monotonic() - at:.0f} s]", flush=True)
        print(f"a Raspberry Pi 3, emulated: all steps in {time.monotonic() - began:.0f} s")
    except Exception as failure:  # Whatever failed, the Pi's journal is needed.
        run.evidence()
        what = failure if isinstance(failure, Failed) else f"{type(failure).__name__}: {failure}"
        print(f"{number}. FAILED: {what}", flush=True)
        sys.exit(1)
    finally:
        run.pi.power_cut()
        run.site.close()


if __name__ == "__main__":
    main()
