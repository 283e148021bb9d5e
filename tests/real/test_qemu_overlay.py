"""Raw disks of running machines: one instant with memory and qcow2 disks, merges that are seen, cancelled and killed.

The machine has a qcow2 disk and a raw one. What the guest writes is made by its agent; a merge is slowed through
a monitor that the server does not use, so that there is time to look at it.
"""

import hashlib
import unittest
from concurrent.futures import ThreadPoolExecutor

import guest
import house
from guest import OFF, RUNNING, SAVED

#: What the guest writes into a file before a snapshot is destroyed.
MEGABYTES = 24
#: Bytes a second of a slowed merge.
SLOW = 4 << 20
MERGING = "32772"


def text_of(word):
    """The content of a file of the guest."""
    line = f"{word}\n".encode()
    size = MEGABYTES << 20
    return (line * (size // len(line) + 1))[:size]


class Overlay(unittest.TestCase):
    def setUp(self):
        self.host = guest.Host(overlay_raw_disks=True)
        self.addCleanup(self.host.close)
        self.one = self.host.add("web01", disks=1, raw=1, raw_megabytes=256)
        self.qcow2, self.raw = self.one.disks
        self.start()
        guest.set_up(self.cim, self.machine, UserSnapshotType=guest.STANDARD)
        guest.change(self.cim, self.machine, RUNNING)
        self.one.serial.wait_for_counts(3)
        self.files = []

    def start(self):
        self.host.start()
        self.cim = self.host.cim()
        self.machine = house.machine(self.cim, "web01")
        self.service = house.service(self.cim, "Msvm_VirtualSystemSnapshotService")

    def fill(self, word):
        """The guest writes a file on its raw disk, to the end."""
        command = f"yes {word} | head -c {MEGABYTES << 20} >/mnt/b/{word} && sync"
        with guest.Agent(self.host.machine_directory(self.one) / "agent.sock", timeout=60) as agent:
            arguments = {"path": "/bin/sh", "arg": ["-c", command]}
            pid = agent.execute("guest-exec", **arguments)["pid"]
            ended = guest.eventually("the file is written", lambda: self.ended(agent, pid), 90, pause=0.1)
            self.assertEqual(0, ended["exitcode"], ended)
        self.files.append(word)

    @staticmethod
    def ended(agent, pid):
        status = agent.execute("guest-exec-status", pid=pid)
        return status if status["exited"] else None

    def take(self):
        return house.take(self.cim, "web01")

    def merge_of(self, known):
        """The job that merges and was not there before."""
        return guest.eventually("disks are merged", lambda: set(guest.merges(self.cim)) - known).pop()

    def destroy_slowly(self, snapshot):
        """Destroys a snapshot; gives the job that merges what it leaves, and slows it."""
        known = set(guest.merges(self.cim))
        with ThreadPoolExecutor(1) as beside:
            slowed = beside.submit(self.set_speed, SLOW)
            house.destroy(self.cim, snapshot)
            slowed.result()
        return self.merge_of(known)

    def set_speed(self, speed):
        """Waits for a merge in QEMU and limits it, in bytes a second; 0 for no limit."""
        with self.one.monitor() as monitor:

            def told():
                jobs = monitor.execute("query-block-jobs")
                for job in jobs:
                    monitor.execute("block-job-set-speed", device=job["device"], speed=speed)
                return jobs

            return guest.eventually("the merge has begun", told, 20, pause=0.001)

    def check(self, snapshots):
        """The disks and the snapshots are of one instant each, and hold every file."""
        self.one.serial.wait_for_counts(3)
        self.one.serial.require_sound()
        with self.one.monitor() as monitor:
            self.assertEqual("running", monitor.status())
            monitor.execute("stop")
            for disk in self.one.disks:
                disk.check(running=True)
            monitor.execute("cont")
        for snapshot, (counters, files) in snapshots.items():
            tag = guest.tag_of(snapshot)
            self.assertEqual(counters, [disk.counter(tag) for disk in self.one.disks])
            self.compare(files, tag)
        tags = sorted(guest.tag_of(snapshot) for snapshot in snapshots)
        self.assertEqual([tags, tags], [[tag.upper() for tag in disk.tags()] for disk in self.one.disks])

    def compare(self, files, tag=None):
        for word in files:
            found = self.raw.content(word, tag)
            self.assertIsNotNone(found, f"{word} of {tag} is not there")
            # A comparison of the bytes would print them all.
            self.assertEqual(hashlib.sha256(text_of(word)).hexdigest(), hashlib.sha256(found).hexdigest(), word)

    def known(self, snapshot):
        """What a snapshot holds; it was just taken, and its disks are of one instant."""
        counters = [disk.counter(guest.tag_of(snapshot)) for disk in self.one.disks]
        self.assertIn(counters[0] - counters[1], (0, 1))
        return counters, list(self.files)

    def check_at_the_end(self):
        """Turned off, the disks hold what the guest has written."""
        counted = self.one.serial.wait_for_counts(1)
        guest.change(self.cim, self.machine, OFF)
        self.host.merged(self.cim)
        for disk in self.one.disks:
            self.assertGreaterEqual(disk.counter(), counted)
            disk.check()
        self.compare(self.files)
        self.one.serial.require_sound()

    def test_memory_and_both_disks_are_of_one_instant(self):
        with self.one.monitor() as monitor:
            first = self.take()
            pauses = monitor.pauses()
        self.assertTrue(self.host.record(first)["has_memory"])
        snapshots = {first: self.known(first)}
        self.fill("one")
        second = self.take()
        snapshots[second] = self.known(second)
        self.one.serial.wait_for_counts(5)
        print(f"\n    pauses {pauses} ms")
        for snapshot in (first, second, first):
            then, files = snapshots[snapshot]
            guest.change(self.cim, self.machine, OFF)
            house.apply(self.cim, snapshot)
            self.assertEqual(SAVED, guest.state_of(self.cim, self.machine))
            self.assertEqual(then, [disk.counter() for disk in self.one.disks])
            self.compare(files)
            self.one.serial.forget()
            guest.change(self.cim, self.machine, RUNNING)
            self.one.serial.wait_for_counts(5)
            self.assertNotIn("begin", self.one.serial.text())
            self.one.serial.require_went_on_from(then)
            self.check(snapshots)
        self.files = list(snapshots[first][1])
        self.host.merged(self.cim)
        house.destroy(self.cim, first)
        house.destroy(self.cim, second)
        self.host.merged(self.cim)
        self.check_at_the_end()
        self.assertEqual(({}, [], []), self.host.traces())
        self.assertEqual([], self.raw.overlays())
        self.host.stop()

    def test_merges_are_seen_while_the_guest_writes(self):
        """The middle one of three goes, then the newest one; the last merge is cancelled and done again."""
        taken = {}
        for word in ("one", "two", "three"):
            snapshot = self.take()
            taken[snapshot] = self.known(snapshot)
            self.fill(word)
        first, middle, newest = taken
        self.assertEqual(3, len(self.raw.overlays()))
        del taken[middle]
        self.follow(self.destroy_slowly(middle))
        self.assertEqual(2, len(self.raw.overlays()))
        self.check(taken)
        for word in ("four", "five", "six"):
            del taken[newest]
            merge = self.destroy_slowly(newest)
            guest.eventually("something is merged", lambda merge=merge: int(self.cim.get(merge)["PercentComplete"]) > 0)
            if self.cancel(merge):
                break
            # The merge was faster; once more.
            newest = self.take()
            taken[newest] = self.known(newest)
            self.fill(word)
        else:
            self.fail("no merge could be cancelled")
        self.assertEqual(2, len(self.raw.overlays()))
        self.check(taken)
        # The next operation on the machine begins it again.
        known = set(guest.merges(self.cim))
        del taken[first]
        house.destroy(self.cim, first)
        merge = self.merge_of(known)
        self.assertEqual("7", self.cim.wait(merge, timeout=120)["JobState"])
        self.assertEqual([], self.raw.overlays())
        self.check(taken)
        self.check_at_the_end()
        self.assertEqual(({}, [], []), self.host.traces())
        self.host.stop()

    def follow(self, merge):
        """The percentages rise while the guest counts, and the machine says what goes on."""
        self.one.serial.forget()
        seen, status = [], []
        while (job := self.cim.get(merge))["JobState"] == "4":
            seen.append(int(job["PercentComplete"]))
            status.append(self.cim.get(self.machine)["OperationalStatus"])
        self.assertEqual("7", job["JobState"], job.get("ErrorDescription"))
        self.assertEqual("100", job["PercentComplete"])
        print(f"\n    progress {sorted(set(seen))}, {len(self.one.serial.counts())} counts meanwhile")
        self.assertEqual(seen, sorted(seen))
        self.assertGreaterEqual(len(set(seen)), 5)
        self.assertIn(["11", MERGING], status)
        self.assertGreater(len(self.one.serial.counts()), 3)
        self.assertEqual("2", self.cim.get(self.machine)["OperationalStatus"])

    def cancel(self, merge):
        """Whether it was cancelled before it was done."""
        self.assertEqual("0", self.cim.get(merge)["ErrorCode"])
        self.cim.invoke(merge, "RequestStateChange", RequestedState=4)
        state = self.cim.wait(merge, timeout=20)["JobState"]
        self.assertIn(state, ("7", "8"))
        with self.one.monitor() as monitor:
            self.assertEqual([], monitor.execute("query-jobs"))
        return state == "8"

    def test_kill_9_in_the_middle_of_a_merge(self):
        """The server is killed while the layer that is written to is merged, and while one below it is."""
        taken = {}
        for word in ("one", "two"):
            snapshot = self.take()
            taken[snapshot] = self.known(snapshot)
            self.fill(word)
        for snapshot in reversed(list(taken)):
            del taken[snapshot]
            merge = self.destroy_slowly(snapshot)
            guest.eventually("something is merged", lambda: int(self.cim.get(merge)["PercentComplete"]) > 0)
            self.host.kill()
            self.one.serial.wait_for_counts(3)
            known = {merge}
            self.start()
            ended = self.cim.wait(merge)
            self.assertIn(ended["JobState"], ("7", "10"))
            if ended["JobState"] == "10":
                self.assertIn("another job merges", ended["ErrorDescription"])
                self.set_speed(0)
                again = self.merge_of(known | {one for one in guest.merges(self.cim) if self.has_ended(one)})
                self.assertEqual("7", self.cim.wait(again, timeout=120)["JobState"])
            self.assertEqual(len(taken), len(self.raw.overlays()))
            self.check(taken)
        self.check_at_the_end()
        self.assertEqual(({}, [], []), self.host.traces())
        self.host.stop()

    def has_ended(self, job):
        return self.cim.get(job)["JobState"] != "4"

    def test_qemu_killed_in_the_middle_of_a_merge(self):
        """The merge ends without QEMU, and the next start has every byte that the guest had forced to its disk."""
        snapshot = self.take()
        self.fill("one")
        merge = self.destroy_slowly(snapshot)
        guest.eventually("something is merged", lambda: int(self.cim.get(merge)["PercentComplete"]) > 0)
        counted = self.one.serial.counts()[-1]
        guest.end(self.host.pid(self.one))
        self.assertEqual("7", self.cim.wait(merge, timeout=120)["JobState"])
        guest.eventually("it is off", lambda: guest.state_of(self.cim, self.machine) == OFF)
        self.assertEqual([], self.raw.overlays())
        self.assertGreaterEqual(self.raw.counter(), counted)
        self.compare(self.files)
        self.one.serial.forget()
        guest.change(self.cim, self.machine, RUNNING)
        self.one.serial.wait_for_counts(3)
        self.one.serial.require_sound()
        self.check_at_the_end()
        self.host.stop()


if __name__ == "__main__":
    unittest.main()
