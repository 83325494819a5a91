"""What a door on an emulated Pi does by its own clock, without a network."""

import json
import time
from datetime import datetime, timedelta, timezone

from machine import Failed, Watch, until
from surroundings import DOOR, FILE, Wires

COIL = Wires.COIL

WEEK = """\
name = "office-hours"
zone = "UTC"

[[window]]
days = "mon-sun"
from = "{:%H:%M}"
to = "{:%H:%M}"
want = "released"
"""


class Schedules:
    """A step of `steps.Run`."""

    def schedules(self):
        """A staged lock, and a week over two boots without a network."""
        now, span = datetime.now(timezone.utc), timedelta(hours=2)
        (self.work / "office.toml").write_text(WEEK.format(now - span, now + span))
        self.site.doorctl(["schedule", "set", "office.toml", DOOR, "--now", "--watch"])
        self.site.doorctl(["relinquish", DOOR])
        self.until_level(False)
        late = self.staged_lock()
        date, night = self.boot_without_clock()
        self.boot_by_its_clock()
        events = self.nothing_missing()
        return (
            f"cut off before T BCM {COIL} was energised within {late:.1f} s after T by the Pi's"
            f" clock; booted on {date} without time: slot 8 locked by the saved time, slot 16"
            f" locked inside of a released window; reported later: {night['state']},"
            f" {night['secured']} by {night['proof']}, and released by the week; booted with a"
            f" clock and without a network: slot 16 released, BCM {COIL} never energised; none of"
            f" {events} events missing"
        )

    def staged_lock(self):
        """Cuts the network before its begin; returns by how much it can have been late."""
        begins = int(time.time()) + 25
        start, end = (
            datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            for at in (begins, begins + 3600)
        )
        entry = json.dumps({"want": "locked", "from": start, "until": end})
        self.site.doorctl(["twin", "set", DOOR, f"timed.night={entry}"])
        self.site.until_reported(
            "the armed entry",
            DOOR,
            lambda reported: reported.get("timed", {}).get("night", {}).get("state") == "armed",
        )
        asked = time.monotonic()
        ahead = float(self.pi.ssh("date +%s.%N")) - asked
        with Watch(self.pi, COIL) as watch:
            self.pi.link(False)
            cut = time.monotonic()
            self.until_level(True, 60)
        locked = watch.edges()[-1][0]
        late = locked + ahead - begins
        if watch.levels() != [False, True] or locked < cut or late < 0:
            raise Failed(
                f"BCM {COIL} went {watch.levels()}, {late:.1f} s after the begin of its entry by"
                f" the Pi's clock and {locked - cut:.1f} s after the cut"
            )
        return late

    def boot_without_clock(self):
        """Only what locks speaks, until time and hub are back; returns its date and the report."""
        self.leave_alone()
        self.pi.link(True)
        self.pi.ssh("rm -f /var/lib/systemd/timesync/clock; sync")
        self.pi.power_cut()
        self.pi.power_on(self.wires.levels())
        self.pi.until_ssh()
        self.until_level(True, 60)
        door, slots = self.door_status()["door"], self.slots()
        night = {"slot": 8, "want": "locked", "commandId": "night"}
        if (
            door["clock"] != "unsynchronized"
            or slots.get(8, {}) | night != slots.get(8)
            or slots[16]["want"] != "locked"
        ):
            raise Failed(f"without a clock ({door['clock']}) the slots are {slots}")
        date = self.pi.ssh("date +%F")
        self.site.open()
        self.time.speaks = True
        reported = self.site.until_reported(
            "the outcome of the entry",
            DOOR,
            lambda reported: reported["connected"] and reported["timed"]["night"].get("reached"),
            180,
        )["timed"]["night"]
        if reported["clock"] != "synchronized" or reported["secured"] != "secured":
            raise Failed(f"the entry is reported as {reported}")
        self.clock_is_trusted()
        self.site.doorctl(["twin", "set", DOOR, "timed.night=null"])
        self.until_level(False, 60)
        return date, reported

    def boot_by_its_clock(self):
        """With a clock of its own, as on a site without a time server, the week goes on."""
        self.pi.ssh(f"""sed -i 's/^kind = "raspberry-pi"/&\\nclock = "system"/' {FILE}; sync""")
        self.leave_alone()
        self.pi.power_cut()
        self.pi.power_on(self.wires.levels(), clock=time.time())
        with Watch(self.pi, COIL) as watch:
            self.pi.until_ssh()
            slots = until("the door's status", self.slots_or_none, 60)
            # Longer than the second after which it looks again.
            time.sleep(2)
        if slots[16]["want"] != "released" or any(watch.levels()) or not self.pi.is_output(COIL):
            raise Failed(f"the slots are {slots}, and BCM {COIL} went {watch.changes}")
        self.site.open()
        self.time.speaks = True
        self.pi.ssh(f"sed -i '/^clock = /d' {FILE}; door-agent restart --force {DOOR}")
        self.linked()
        self.site.doorctl(["schedule", "clear", DOOR, "--watch"])
        self.clock_is_trusted()
