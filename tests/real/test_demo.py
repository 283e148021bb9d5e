"""`wsnapd demo` with QEMU: its machines run and count, and end with it."""

import re
import unittest

import guest
import house
import server
from guest import OFF, RUNNING, SAVED


class Demo(unittest.TestCase):
    def setUp(self):
        self.demo = server.Demo()
        self.demo.options.remove("--no-qemu")
        self.addCleanup(self.close)
        self.start()

    def close(self):
        for pid in self.pids():
            guest.end(pid)
        self.demo.close()

    def start(self):
        self.demo.start()
        self.cim = self.demo.cim()
        self.machines = {name: house.machine(self.cim, name) for name in ("web01", "db01")}

    def pids(self):
        return [int(path.read_text()) for path in self.demo.data.glob("state/machines/*/qemu.pid")]

    def serial(self, name):
        return self.demo.data / f"{name}.serial"

    def counts(self, name, behind=0):
        """What was counted, from this place of the serial line on: a start goes on at the end of the file."""
        text = self.serial(name).read_bytes()[behind:].decode()
        return [int(number) for number in re.findall(r"(?m)^count (\d{8})$", text.replace("\r", ""))]

    def wait_for_counts(self, name, more=3):
        before = len(self.counts(name))
        guest.eventually(f"{name} counts on", lambda: len(self.counts(name)) >= before + more)
        return self.counts(name)

    def on_disk(self, name):
        """The number in the second sector of each disk of a machine that is off."""
        numbers = []
        for path in self.demo.disks(name):
            raw = path.with_suffix(".raw")
            guest.call("qemu-img", "convert", "-O", "raw", path, raw)
            with open(raw, "rb") as file:
                file.seek(512)
                numbers.append(int(re.match(rb"count (\d{8})\n", file.read(15)).group(1)))
            raw.unlink()
        return numbers

    def test_the_machines_run_and_go_on_from_a_snapshot(self):
        self.assertEqual({"web01": RUNNING, "db01": RUNNING}, guest.running_of(self.cim))
        self.wait_for_counts("db01")
        snapshot = house.take(self.cim, "db01")
        taken = self.counts("db01")[-1]
        # Without a guest agent a snapshot of type 2 holds the memory.
        self.assertEqual("true", self.cim.get(snapshot)["IsSaved"])
        later = self.wait_for_counts("db01", 8)[-1]
        guest.change(self.cim, self.machines["db01"], OFF)
        self.assertGreaterEqual(min(self.on_disk("db01")), later)
        house.apply(self.cim, snapshot)
        self.assertEqual(SAVED, guest.state_of(self.cim, self.machines["db01"]))
        for number in self.on_disk("db01"):
            self.assertAlmostEqual(taken, number, delta=2)
        behind = self.serial("db01").stat().st_size
        guest.change(self.cim, self.machines["db01"], RUNNING)
        guest.eventually("db01 counts", lambda: self.counts("db01", behind))
        self.assertAlmostEqual(taken, self.counts("db01", behind)[0], delta=2)

    def test_its_end_and_the_next_start(self):
        last = self.wait_for_counts("web01")[-1]
        pids = self.pids()
        self.assertEqual(2, len(pids))
        self.demo.stop()
        for pid in pids:
            self.assertFalse(guest.alive(pid), "a machine of the demo outlived it")
        behind = self.serial("web01").stat().st_size
        self.start()
        guest.eventually("web01 counts", lambda: self.counts("web01", behind))
        self.assertGreaterEqual(self.counts("web01", behind)[0], last)
        # One that is killed leaves them running, and the next finds them.
        pids = self.pids()
        self.demo.kill()
        self.start()
        self.assertEqual(pids, self.pids())
        self.assertEqual({"web01": RUNNING, "db01": RUNNING}, guest.running_of(self.cim))
        self.demo.stop()

    def test_a_directory_that_was_made_without_qemu_stays_so(self):
        demo = server.Demo()
        self.addCleanup(demo.close)
        demo.start()
        self.assertEqual({"web01": OFF, "db01": OFF}, guest.running_of(demo.cim()))
        demo.stop()
        demo.options.remove("--no-qemu")
        demo.start()
        self.assertEqual({"web01": OFF, "db01": OFF}, guest.running_of(demo.cim()))
        self.assertEqual(2, len(demo.disks("db01")))
        demo.stop()


if __name__ == "__main__":
    unittest.main()
