"""The site around an emulated Pi: a door-hub, doorctl, the time, and the wiring of the header."""

import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from machine import Failed, Machine, until

# Address of the host machine as seen from an emulated Pi.
HOST_SEEN_FROM_PI = "10.0.2.2"

DOOR = "lobby-east"
FILE = f"/etc/door-agent/{DOOR}.toml"


class Site:
    """A hub on this machine, with an operator; its clock is `later` seconds ahead."""

    def __init__(self, folder: Path, programs: Path):
        self.folder, self.programs = folder, programs
        self.data = folder / "hub"
        self.later = 0
        self.hub = None
        self.mqtt_port, self.https_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "DOORCTL_CONFIG": str(folder / "doorctl.toml"),
            "NO_COLOR": "1",
        }

    def _program(self, name):
        ahead = ["faketime", "-f", f"+{self.later}"] if self.later else []
        return [*ahead, str(self.programs / name)]

    def _environment(self):
        # Only the wall clock is ahead; waits take as long as usual.
        return (
            {**self.environment, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            if self.later
            else self.environment
        )

    # The hub.

    def found(self):
        """Creates its folder and an operator's context."""
        ports = [
            "--listen",
            "127.0.0.1",
            "--mqtt-port",
            str(self.mqtt_port),
            "--https-port",
            str(self.https_port),
        ]
        done = [
            self.programs / "door-hub",
            "init",
            "--data",
            self.data,
            "--name",
            "localhost",
            "--san",
            HOST_SEEN_FROM_PI,
            *ports,
        ]
        run = subprocess.run(done, capture_output=True, text=True)
        if run.returncode:
            raise Failed(f"door-hub init: {run.stderr.strip()}")

    def context(self):
        """The arguments that add it to doorctl."""
        return [
            "context",
            "add",
            "site",
            "--connection-string-file",
            str(self.data / "service-connection-string"),
            "--ca",
            str(self.data / "ca.pem"),
        ]

    def open(self):
        log = (self.folder / "hub.log").open("ab")
        self.hub = subprocess.Popen(
            [*self._program("door-hub"), "serve", "--data", str(self.data)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment(),
            start_new_session=True,
        )
        until("the hub", lambda: self._answers(), 30)

    def _answers(self):
        if self.hub.poll() is not None:
            raise Failed(f"door-hub has ended: {(self.folder / 'hub.log').read_text()[-500:]}")
        try:
            self.get("/healthz", token=None)
            return True
        except OSError:
            return False

    def close(self):
        if self.hub:
            os.killpg(self.hub.pid, signal.SIGTERM)
            self.hub.wait(30)
            self.hub = None

    def get(self, path, token):
        request = urllib.request.Request(f"https://localhost:{self.https_port}{path}")
        if token:
            request.add_header("Authorization", token)
        trust = ssl.create_default_context(cafile=self.data / "ca.pem")
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            return answer.read().decode()

    def token(self, path):
        """A token of the owner for one path, from the hub's own command."""
        file = self.folder / f"{path.strip('/')}-{self.later}.token"
        if not file.exists():
            made = [
                *self._program("door-hub"),
                "policy",
                "token",
                "iothubowner",
                "--path",
                path,
                "--out",
                str(file),
                "--data",
                str(self.data),
            ]
            run = subprocess.run(made, capture_output=True, text=True, env=self._environment())
            if run.returncode:
                raise Failed(f"door-hub policy token: {run.stderr.strip()}")
        return file.read_text().strip()

    def events(self):
        """All messages of the door at the hub, oldest first."""
        body = self.get("/events?kind=telemetry&after=0&follow=false", self.token("/events"))
        documents = [
            json.loads(line.removeprefix("data:"))
            for line in body.splitlines()
            if line.startswith("data:")
        ]
        return [
            document["body"]
            for document in documents
            if "body" in document and not document.get("repeated")
        ]

    # The operator.

    def doorctl(self, arguments, *, expect=0, within=120, echo=False):
        """Runs doorctl; returns its stdout."""
        try:
            run = subprocess.run(
                [*self._program("doorctl"), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within,
                env=self._environment(),
                cwd=self.folder,
            )
        except subprocess.TimeoutExpired as late:
            raise Failed(
                f"doorctl {' '.join(arguments)}: not within {within} s: {late.stderr}"
            ) from None
        if echo:
            for line in (run.stderr + run.stdout).splitlines():
                print(f"    {line}", flush=True)
        if run.returncode != expect:
            raise Failed(
                f"doorctl {' '.join(arguments)}: status {run.returncode}, expected {expect}:"
                f" {run.stderr}{run.stdout}"
            )
        return run.stdout

    def reported(self, door):
        twin = json.loads(self.doorctl(["twin", "show", door, "-o", "json"]))
        return {
            "connected": twin["connectionState"] == "Connected",
            **twin["properties"]["reported"],
        }

    def until_reported(self, what, door, wanted, within=60):
        return until(
            what,
            lambda: (lambda reported: reported if wanted(reported) else None)(self.reported(door)),
            within,
            0.5,
        )


class Time:
    """The time server of the site (SNTP, RFC 4330); silent until `speaks` is set.

    On port 123 of the loopback address, where a Pi's `NTP=10.0.2.2` ends.
    """

    SINCE_1900 = 2_208_988_800

    def __init__(self):
        self.later = 0
        self.speaks = False
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(("127.0.0.1", 123))
        except OSError as taken:
            raise Failed(
                f"time cannot be served on port 123 of 127.0.0.1: {taken.strerror}"
            ) from None
        threading.Thread(target=self._serve, daemon=True).start()

    def _stamp(self):
        now = time.time() + self.later + self.SINCE_1900
        return struct.pack("!II", int(now), int(now % 1 * 2**32))

    def _serve(self):
        while True:
            packet, peer = self.socket.recvfrom(512)
            if len(packet) < 48 or packet[0] & 7 != 3:
                continue
            self.asked += 1
            if self.speaks:
                # Version and poll from the request; mode 4 (server), stratum 1, precision 2^-20,
                # reference LOCL; four times, the second one the client's.
                head = bytes([packet[0] & 0x38 | 4, 1, packet[2], 0xEC]) + bytes(8) + b"LOCL"
                now = self._stamp()
                self.socket.sendto(head + now + packet[40:48] + now + now, peer)


class Wires:
    """A maglock and the contacts of its door, on the pins of `lobby-east.toml`.

    All close to ground, except the fire release, a loop that opens. 10 kΩ pull the driver of the
    magnet to ground.
    """

    COIL, DOOR, BOND, REX, FIRE, FIRE_RESET = 17, 22, 23, 24, 5, 6

    def __init__(self, machine: Machine):
        self.machine = machine
        self.is_open = False
        # Whether the armature is in place, so that the magnet can hold it.
        self.holds = True
        self.bonded = False
        self._lock = threading.Lock()
        threading.Thread(target=self._magnet, daemon=True).start()

    def levels(self):
        """The levels of the inputs while nobody is at the door."""
        return {
            self.DOOR: self.is_open,
            self.BOND: True,
            self.REX: True,
            self.FIRE: False,
            self.FIRE_RESET: True,
        }

    def _magnet(self):
        """The lock monitor closes while the magnet holds the armature of a closed door."""
        while True:
            time.sleep(0.02)
            try:
                if not self.machine.is_output(self.COIL):
                    self.machine.drive(self.COIL, False)
                with self._lock:
                    bonded = self.machine.level(self.COIL) and self.holds and not self.is_open
                    if bonded != self.bonded or not self.machine.pins:
                        self.machine.drive(self.BOND, not bonded)
                        self.bonded = bonded
            except (Failed, OSError, AttributeError):
                self.bonded = False

    def door(self, is_open):
        with self._lock:
            self.is_open = is_open
            if is_open:
                self.machine.drive(self.BOND, True)
                self.bonded = False
            self.machine.drive(self.DOOR, is_open)

    def hold(self, pin):
        """Closes a button or a key switch."""
        self.machine.drive(pin, False)

    def let_go(self, pin):
        self.machine.drive(pin, True)

    def press(self, pin, seconds):
        """Closes it for a time."""
        self.hold(pin)
        time.sleep(seconds)
        self.let_go(pin)

    def fire(self, burns):
        self.machine.drive(self.FIRE, burns)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def command_of_guide(guide: Path, starts):
    """A line of the guide that starts like this: the documented command is the one that runs."""
    for line in guide.read_text().splitlines():
        if line.startswith(starts):
            return line.split()
    raise Failed(f"{guide.name} has no line that starts with '{starts}'")


def gaps(events):
    """The missing event numbers, by boot; each boot starts with 1."""
    numbers = {}
    for event in events:
        numbers.setdefault(event["boot"], set()).add(event["seq"])
    missing = {boot: sorted(set(range(1, max(seen) + 1)) - seen) for boot, seen in numbers.items()}
    return {boot: lost for boot, lost in missing.items() if lost}


def exposure(text):
    """The exposure from `systemd-analyze security`, as a number."""
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    if not found:
        raise Failed(f"systemd-analyze security printed no exposure: {text[-200:]}")
    return float(found[1])
