"""A shorter run of `kill_rounds.py`, and restarts in good order."""

import random
import unittest

import house
import kill_rounds
import server
import wsman


class Kill(unittest.TestCase):
    def test_25_rounds_of_kill_9(self):
        seed = random.SystemRandom().randrange(1 << 31)
        try:
            print("", kill_rounds.run(25, seed), sep="\n")
        except kill_rounds.Broken as problem:
            self.fail(str(problem))


class Restart(unittest.TestCase):
    def test_everything_is_there_after_a_restart(self):
        demo = server.Demo()
        self.addCleanup(demo.close)
        demo.start()
        cim = demo.cim()
        first = house.take(cim, "db01", SnapshotSettings=wsman.settings(ElementName="first"))
        server.scribble(demo.disks("db01"))
        second = house.take(cim, "db01", SnapshotSettings=wsman.settings(ElementName="second"))
        output, _ = cim.run(
            house.service(cim, "Msvm_CollectionSnapshotService"),
            "CreateSnapshot",
            Collection=house.collection(cim, "shop"),
            SnapshotType=2,
        )
        target = house.machine(cim, "db01")
        known = {one: cim.get(one).properties for one in house.snapshots_of(cim, target)}
        self.assertEqual(3, len(known))
        job = cim.get(output["Job"]).properties
        files = server.digests(demo.snapshot_files())
        demo.stop()
        demo.start()
        cim = demo.cim()
        self.assertEqual(known, {one: cim.get(one).properties for one in house.snapshots_of(cim, target)})
        self.assertEqual([second], house.current_of(cim, target))
        self.assertIn(first.keys["InstanceID"], cim.get(second)["Parent"])
        self.assertEqual(job, cim.get(output["Job"]).properties)
        self.assertEqual(files, server.digests(demo.snapshot_files()))
        demo.stop()

    def test_a_second_server_on_the_same_directory_is_refused(self):
        demo = server.Demo()
        self.addCleanup(demo.close)
        demo.start()
        twin = server.Demo(demo.directory)
        with self.assertRaises(AssertionError):
            twin.start()
        self.assertEqual("web01", demo.cim().get(house.machine(demo.cim(), "web01"))["ElementName"])
        demo.stop()


if __name__ == "__main__":
    unittest.main()
