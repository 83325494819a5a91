"""An emulated Raspberry Pi 3: power, pins as seen and driven from outside, network cable, and ssh.

QEMU's `raspi3b` has the registers of the GPIO block. They are accessed through its qtest socket,
not through the operating system: what is read here is what a wire would carry.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

BLOCK = 0x3F200000
GPFSEL0, GPSET0, GPCLR0, GPLEV0 = 0x00, 0x1C, 0x28, 0x34
OUTPUT = 1

KERNEL = (
    "console=ttyAMA0,115200 console=ttyS1,115200 iomem=relaxed panic=-1 rdinit=/init quiet"
    " systemd.show_status=1"
)


class Failed(Exception):
    """An expected observation was not made."""


def until(what, seen, within, every=0.2):
    """Waits until `seen()` is true and returns it; fails with `what` after `within` seconds."""
    ends = time.monotonic() + within
    while True:
        value = seen()
        if value:
            return value
        if time.monotonic() > ends:
            raise Failed(f"{what}: not within {within} s")
        time.sleep(every)


class Socket:
    """A line in, a line out, for one caller at a time."""

    def __init__(self, path):
        self.socket = until(f"QEMU's {path.name}", lambda: self._connected(path), 20, 0.05)
        self.socket.settimeout(20)
        self.lines = self.socket.makefile("rw")
        self.lock = threading.Lock()

    @staticmethod
    def _connected(path):
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(path))
            return line
        except OSError:  # It does not exist yet, or nobody listens yet.
            line.close()
            return None

    def ask(self, line):
        with self.lock:
            self.lines.write(line + "\n")
            self.lines.flush()
            answer = self.lines.readline().split()
        if not answer or answer[0] != "OK":
            raise Failed(f"QEMU answered {' '.join(answer) or 'nothing'} to {line}")
        return answer[1:]


class Machine:
    """A Pi that can be powered on, and off as by a power cut."""

    def __init__(self, prepared: Path, folder: Path, key: Path, ssh_port: int):
        self.prepared, self.folder, self.key, self.ssh_port = prepared, folder, key, ssh_port
        self.process = None
        self.pins = None
        self.boots = 0

    # Power.

    def power_on(self, levels, clock=None):
        """Powers it on with these levels (pin -> high) at its inputs, and a clock if it has one."""
        for name in ("qtest", "monitor"):
            (self.folder / name).unlink(missing_ok=True)
        self.boots += 1
        self.console = self.folder / f"console-{self.boots}.log"
        self.process = subprocess.Popen(
            [
                os.environ.get("QEMU", "qemu-system-aarch64"),
                "-M",
                "raspi3b",
                "-accel",
                "tcg",
                "-display",
                "none",
                "-no-reboot",
                "-kernel",
                self.prepared / "vmlinuz",
                "-dtb",
                self.prepared / "pi-3.dtb",
                "-initrd",
                self.folder / "boot.gz",
                "-append",
                KERNEL + (f" systemd.clock_usec={clock * 1e6:.0f}" if clock else ""),
                "-drive",
                f"if=sd,format=raw,file={self.folder}/card.img",
                "-device",
                "usb-net,netdev=net",
                "-netdev",
                f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22",
                "-monitor",
                f"unix:{self.folder}/monitor,server,nowait",
                "-qtest",
                f"unix:{self.folder}/qtest,server,nowait",
                "-qtest-log",
                "none",
                "-serial",
                f"file:{self.folder}/uart.log",
                "-serial",
                f"file:{self.console}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "qemu.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.powered_on = time.monotonic()
        self.pins = Socket(self.folder / "qtest")
        for pin, high in levels.items():
            self.drive(pin, high)

    def power_cut(self):
        """Cuts the power: nothing in the Pi can react."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            self.pins = None

    def power_off(self):
        """Shuts its system down. The emulated Pi cannot power off, it halts."""
        # Delayed, so that the answer of this command gets through.
        self.ssh("systemd-run --quiet --on-active=1 systemctl poweroff")
        until(
            "the end of the Pi's system",
            lambda: "reboot: System halted" in self.console_says()
            or self.process.poll() is not None,
            90,
        )
        self.power_cut()

    def console_says(self):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    # Pins, by BCM number.

    def _read(self, register):
        return int(self.pins.ask(f"readl {BLOCK + register:#x}")[0], 16)

    def level(self, pin):
        return bool(self._read(GPLEV0) >> pin & 1)

    def is_output(self, pin):
        return self._read(GPFSEL0 + 4 * (pin // 10)) >> 3 * (pin % 10) & 7 == OUTPUT

    def drive(self, pin, high):
        """Sets the level wired to an input."""
        self.pins.ask(f"writel {BLOCK + (GPSET0 if high else GPCLR0):#x} {1 << pin:#x}")

    # The cable.

    def link(self, up):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(20)
            monitor.connect(str(self.folder / "monitor"))
            self._prompt(monitor)
            monitor.sendall(f"set_link net {'on' if up else 'off'}\n".encode())
            self._prompt(monitor)

    @staticmethod
    def _prompt(monitor):
        output = b""
        while not output.endswith(b"(qemu) "):
            part = monitor.recv(4096)
            if not part:
                raise Failed("QEMU's monitor has closed")
            output += part

    # ssh.

    def ssh_options(self):
        """As `-o` takes them; each card has a new host key."""
        return [
            f"IdentityFile={self.key}",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            "LogLevel=ERROR",
        ]

    def ssh(self, command, *, within=120, check=True):
        """Runs a command as root; returns its output, stripped."""
        options = [
            *self.ssh_options(),
            "ConnectTimeout=15",
            "ControlMaster=auto",
            f"ControlPath={self.folder}/ssh-{self.boots}",
            "ControlPersist=60",
        ]
        arguments = [
            "ssh",
            "-p",
            str(self.ssh_port),
            *(word for option in options for word in ("-o", option)),
            "pi@127.0.0.1",
            "sudo -n sh -s",
        ]
        try:
            ran = subprocess.run(
                arguments, input=command.encode(), capture_output=True, timeout=within
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"on the Pi, within {within} s: {command}") from None
        if check and ran.returncode != 0:
            raise Failed(
                f"on the Pi: {command}: status {ran.returncode}:"
                f" {(ran.stdout + ran.stderr).decode(errors='replace').strip()}"
            )
        return ran.stdout.decode(errors="replace").strip()

    def send(self, file: Path, to):
        """Copies a file to the Pi."""
        options = [word for option in self.ssh_options() for word in ("-o", option)]
        with file.open("rb") as content:
            subprocess.run(
                ["ssh", "-p", str(self.ssh_port), *options, "pi@127.0.0.1", f"cat >{to}"],
                stdin=content,
                check=True,
                timeout=120,
            )

    def until_ssh(self, within=240):
        def answers():
            if self.process.poll() is not None:
                raise Failed(f"QEMU has ended: {(self.folder / 'qemu.log').read_text()[-500:]}")
            try:
                return self.ssh("echo here", within=30) == "here"
            except Failed:
                return False

        until("ssh on the Pi", answers, within, 1)


class Watch:
    """Records the changes of a pin: `changes` has (time, is output, is high)."""

    def __init__(self, machine, pin, every=0.01):
        self.machine, self.pin, self.every = machine, pin, every
        self.changes = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        # Include a change since the last look.
        with contextlib.suppress(Failed, OSError, AttributeError):
            self._look()

    def _look(self):
        now = (self.machine.is_output(self.pin), self.machine.level(self.pin))
        if not self.changes or self.changes[-1][1:] != now:
            self.changes.append((time.monotonic(), *now))

    def _run(self):
        while not self._ended.wait(self.every):
            with contextlib.suppress(Failed, OSError, AttributeError):
                self._look()

    def edges(self):
        """The first level and every change of it, as (time, is high)."""
        edges = []
        for at, _, high in self.changes:
            if not edges or edges[-1][1] != high:
                edges.append((at, high))
        return edges

    def levels(self):
        """The levels in order."""
        return [high for _, high in self.edges()]
