"""Filesystems for tests, in files behind loop devices (and tmpfs)."""

import os
import pathlib
import shutil
import subprocess
import tempfile

MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
}


def call(*command):
    """Runs a program; what it says is in the error when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"{command} failed with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Mounted:
    """A fresh filesystem, mounted while the block runs. Needs the rights of root."""

    def __init__(self, kind, megabytes):
        self.kind, self.megabytes = kind, megabytes

    def __enter__(self):
        if os.geteuid() != 0:
            raise AssertionError("mounting needs root; run tests/run as root or with sudo")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"wsnapd-{self.kind}-"))
        self.path = self.directory / "mnt"
        self.path.mkdir()
        try:
            if self.kind == "tmpfs":
                call("mount", "-t", "tmpfs", "-o", f"size={self.megabytes}m", "tmpfs", self.path)
            else:
                image = self.directory / "image"
                with open(image, "wb") as file:
                    file.truncate(self.megabytes << 20)
                call(*MAKE[self.kind], image)
                call("mount", "-t", self.kind, "-o", "loop", image, self.path)
        except BaseException:
            shutil.rmtree(self.directory)
            raise
        return self

    def __exit__(self, *_):
        done = subprocess.run(["umount", str(self.path)], capture_output=True, text=True)
        if done.returncode:
            # Somebody still works on it: take it away all the same, the loop device goes with the last user.
            call("umount", "-l", self.path)
        shutil.rmtree(self.directory, ignore_errors=True)
        if done.returncode:
            raise AssertionError(f"{self.path} was still in use: {done.stderr}")

    def used(self):
        """Bytes in use, after everything pending is written."""
        os.sync()
        status = os.statvfs(self.path)
        return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared_bytes(path):
    """How much of a file shares its blocks with another file, and how much data it has, by `filefrag -v`."""
    shared = total = 0
    for line in call("filefrag", "-v", "-s", "-b4096", path).splitlines():
        fields = line.replace(":", " ").split()
        if not fields or not fields[0].isdigit() or ".." not in line:
            continue
        # ext: logical_offset: physical_offset: length: expected: flags
        length = int(line.split(":")[3].strip())
        total += length * 4096
        if "shared" in line:
            shared += length * 4096
    return shared, total
