"""Where the filesystem can share blocks it is used; where it cannot, copies are made."""

import time
import unittest

import house
import mounts
import server

MB = 1 << 20


class Filesystems(unittest.TestCase):
    def on(self, kind, shares):
        with mounts.Mounted(kind, 640) as mounted:
            demo = server.Demo(mounted.path)
            try:
                demo.add_machine("big", [{"name": "system", "path": "../disks/big.img"}])
                server.fill(demo.data / "disks" / "big.img", 120 * MB)
                server.fill(demo.data / "pool1" / "wide", 120 * MB)
                with demo:
                    cim = demo.cim()
                    self.machine(mounted, demo, cim, shares)
                    self.volume(mounted, demo, cim, shares)
            finally:
                demo.close()

    def machine(self, mounted, demo, cim, shares):
        (disk,) = demo.disks("big")
        before, used = server.digest(disk), mounted.used()
        snapshot = house.take(cim, "big")
        (file,) = demo.snapshot_files()
        self.assertEqual(before, server.digest(file))
        self.check_sharing(mounted, file, mounted.used() - used, shares)
        server.scribble([disk])
        self.assertEqual(before, server.digest(file))
        house.apply(cim, snapshot)
        self.assertEqual(before, server.digest(disk))
        if shares:
            self.check_sharing(mounted, disk, mounted.used() - used, shares)
        house.destroy(cim, snapshot)
        self.assertEqual([], demo.snapshot_files())
        self.assertEqual(before, server.digest(disk))

    def volume(self, mounted, demo, cim, shares):
        source, known = demo.data / "pool1" / "wide", set((demo.data / "pool1").iterdir())
        before, used = server.digest(source), mounted.used()
        begun = time.monotonic()
        output = cim.invoke(house.volume(cim, "wide"), "CreateSnapshot", ElementName="wide-1")
        taken = time.monotonic() - begun
        if shares:
            self.assertEqual("0", output["ReturnValue"])
            self.assertIsNone(output.get("Job"))
            self.assertLess(taken, 2.0, "a clone is instant")
        else:
            self.assertEqual("4096", output["ReturnValue"])
            self.assertEqual("7", cim.wait(output["Job"])["JobState"])
        new = house.only(list(set((demo.data / "pool1").iterdir()) - known), "new volume")
        self.assertEqual(before, server.digest(new))
        self.check_sharing(mounted, new, mounted.used() - used, shares)
        server.scribble([source])
        self.assertEqual(before, server.digest(new))

    def check_sharing(self, mounted, file, grown, shares):
        if shares:
            shared, total = mounts.shared_bytes(file)
            self.assertGreaterEqual(total, 119 * MB)
            self.assertGreaterEqual(shared, total - MB, "the file was copied")
            self.assertLess(grown, 16 * MB)
        else:
            self.assertGreater(grown, 110 * MB)
            if mounted.kind != "tmpfs":
                self.assertEqual(0, mounts.shared_bytes(file)[0])

    def test_xfs(self):
        self.on("xfs", True)

    def test_btrfs(self):
        self.on("btrfs", True)

    def test_ext4(self):
        self.on("ext4", False)

    def test_tmpfs(self):
        self.on("tmpfs", False)

    def test_a_sparse_disk_stays_sparse(self):
        with mounts.Mounted("ext4", 256) as mounted:
            demo = server.Demo(mounted.path)
            try:
                demo.add_machine("thin", [{"name": "system", "path": "../disks/thin.img"}])
                server.fill(demo.data / "disks" / "thin.img", MB)
                with open(demo.data / "disks" / "thin.img", "r+b") as file:
                    file.truncate(8 << 30)
                    file.seek(5 << 30)
                    file.write(b"far out")
                with demo:
                    cim = demo.cim()
                    snapshot = house.take(cim, "thin")
                    (file,) = demo.snapshot_files()
                    self.assertEqual(8 << 30, file.stat().st_size)
                    self.assertLess(file.stat().st_blocks * 512, 4 * MB)
                    with open(file, "rb") as opened:
                        opened.seek(5 << 30)
                        self.assertEqual(b"far out", opened.read(7))
                    house.destroy(cim, snapshot)
            finally:
                demo.close()


if __name__ == "__main__":
    unittest.main()
