"""The Linux guest of the tests: its disks, its serial line, its monitor and its agent, and a server that runs it.

`tests/guest/build` makes kernel and initial file system. The guest counts on two ext4 disks and in memory
and says on its serial line when they do not agree; see `tests/guest/count.c`.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time
import uuid
from urllib.parse import urlsplit

import server
import wsman
from wsman import V2

BUILT = server.ROOT / "target" / "guest"
#: The size of a disk, and of the memory of a guest without ballast.
DISK_MB, MEMORY_MB = 32, 128
#: How long a guest may take to its first count, on a machine with neighbours.
BOOT = 90.0
#: RequestedState and EnabledState.
RUNNING, OFF, SAVED, PAUSED = 2, 3, 6, 9


@functools.cache
def built():
    """Kernel and initial file system; built when they are not there."""
    call(server.ROOT / "tests" / "guest" / "build", BUILT, timeout=600)
    return BUILT / "vmlinuz", BUILT / "initrd.cpio.gz"


def call(*command, timeout=120, **options):
    """Runs a program and gives what it says; a failure is raised with its words."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=environment, **options
    )
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def eventually(what, holds, timeout=30.0, pause=0.02):
    """Waits until `holds()` gives something true, and gives it."""
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(pause)
    return value


# -- disks -------------------------------------------------------------------------------------------


class Disk:
    """A disk with an ext4 file system and the file `count` on it."""

    def __init__(self, path, kind="qcow2"):
        self.path, self.kind = pathlib.Path(path), kind

    def make(self, megabytes=DISK_MB):
        """The file lies in place before the guest begins, so that reading it needs no journal."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            content, raw = pathlib.Path(directory) / "content", pathlib.Path(directory) / "raw"
            content.mkdir()
            (content / "count").write_bytes(b"0".ljust(4096, b"\n"))
            with open(raw, "wb") as file:
                file.truncate(megabytes << 20)
            call("mkfs.ext4", "-q", "-m", "0", "-d", content, raw)
            call("qemu-img", "convert", "-O", self.kind, raw, self.path)
        return self

    def raw(self, directory, tag=None):
        """A raw copy of the disk, or of what it was under a tag. While the machine runs, tags only."""
        target = pathlib.Path(directory) / f"{self.path.name}.{tag}.raw"
        chosen = ["-l", f"snapshot.name={tag}"] if tag else []
        call("qemu-img", "convert", "-U", "-f", self.kind, *chosen, "-O", "raw", self.path, target)
        return target

    def facts(self, tag=None):
        """The counter on the disk, and whether its journal needs recovery."""
        with tempfile.TemporaryDirectory() as directory:
            raw = self.raw(directory, tag)
            counter = int(call("debugfs", "-R", "cat /count", raw).split()[0])
            return counter, "needs_recovery" in call("dumpe2fs", "-h", raw).split()

    def counter(self, tag=None):
        with tempfile.TemporaryDirectory() as directory:
            return int(call("debugfs", "-R", "cat /count", self.raw(directory, tag)).split()[0])

    def needs_recovery(self, tag=None):
        return self.facts(tag)[1]

    def info(self):
        return json.loads(call("qemu-img", "info", "-U", "--output=json", self.path))

    def tags(self):
        """The names of the snapshots inside the disk."""
        return sorted(one["name"] for one in self.info().get("snapshots", []))

    def check(self, running=False, leaks=False):
        """`qemu-img check`: no error, and no leak. Of a machine that runs only while its guest stands still.

        QEMU that is killed may leave clusters that nobody uses (`leaks`) until the machine is started again.
        """
        command = ["qemu-img", "check", *(["-U"] if running else []), "--output=json", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        report = json.loads(done.stdout or "{}")
        broken = {name: report[name] for name in ("corruptions", "check-errors", "leaks") if report.get(name)}
        if leaks and done.returncode == 3 and set(broken) == {"leaks"}:
            return
        if done.returncode or broken:
            raise AssertionError(f"{self.path}: check ended with {done.returncode}, {broken} {done.stderr}")


class RawDisk(Disk):
    """A raw disk. Its snapshots are files, and the server keeps account of them in `layers.json`."""

    def __init__(self, path):
        super().__init__(path, "raw")
        #: Where the server keeps what belongs to the machine.
        self.home = None

    def account(self):
        """What `layers.json` says of the disk; without a word of it the disk is its own file."""
        try:
            disks = json.loads((self.home / "layers.json").read_text())["disks"]
        except FileNotFoundError:
            disks = {}
        return disks.get(self.path.stem) or {"overlays": [], "active": str(self.path), "frozen": {}}

    def layer(self, tag=None):
        """The file that is written to, or that is a snapshot now, and its layout."""
        account = self.account()
        files = {name.upper(): file for name, file in account["frozen"].items()}
        file = files[tag.upper()] if tag else account["active"]
        return file, "raw" if file == str(self.path) else "qcow2"

    def raw(self, directory, tag=None):
        target = pathlib.Path(directory) / f"{self.path.name}.{tag}.raw"
        deadline = time.monotonic() + 30
        while True:
            file, kind = self.layer(tag)
            try:
                call("qemu-img", "convert", "-U", "-f", kind, "-O", "raw", file, target)
                return target
            except AssertionError as problem:
                # A merge may have moved it meanwhile, or have it locked now.
                if time.monotonic() > deadline or (self.layer(tag)[0] == file and " lock" not in str(problem)):
                    raise
                time.sleep(0.05)

    def content(self, name, tag=None):
        """What a file on the disk holds."""
        with tempfile.TemporaryDirectory() as directory:
            target = pathlib.Path(directory) / "file"
            call("debugfs", "-R", f"dump /{name} {target}", self.raw(directory, tag))
            return target.read_bytes() if target.exists() else None

    def tags(self):
        return sorted(tag.upper() for tag in self.account()["frozen"])

    def overlays(self):
        """The files above that of the disk; what lies there must be what the server knows."""
        files = sorted(str(path) for path in (self.home / "layers").glob(f"{self.layer_name()}-*"))
        if files != sorted(self.account()["overlays"]):
            raise AssertionError(f"{files} lie there, known are {self.account()}")
        return files

    def layer_name(self):
        plain = string.ascii_letters + string.digits + "_"
        return "".join(one if one in plain else f"%{ord(one):02X}" for one in self.path.stem)

    def check(self, running=False, leaks=False):
        for file in self.overlays():
            Disk(file).check(running, leaks)


# -- the serial line ---------------------------------------------------------------------------------


class Serial:
    """What the guest wrote on its serial line, read from a file."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.begun = 0

    def forget(self):
        """Only what is written from now on counts."""
        self.begun = self.path.stat().st_size if self.path.exists() else 0

    def text(self):
        """Whole lines only. A file that became shorter was begun anew."""
        if not self.path.exists():
            return ""
        data = self.path.read_bytes()
        if len(data) < self.begun:
            self.begun = 0
        text = data[self.begun :].decode(errors="replace").replace("\r", "")
        return text[: text.rfind("\n") + 1]

    def numbers(self, word):
        return [int(number) for number in re.findall(rf"(?m)^{word} (\d+)$", self.text())]

    def counts(self):
        return self.numbers("count")

    def beats(self):
        return self.numbers("beat")

    def wait_for(self, pattern, timeout=BOOT):
        return eventually(
            f"{pattern} on the serial line, which ends in {self.text()[-600:]!r}",
            lambda: re.search(pattern, self.text(), re.MULTILINE),
            timeout,
        )

    def wait_for_counts(self, number=1, timeout=BOOT):
        """Waits for so many further counts."""
        before = len(self.counts())
        eventually(
            f"{number} counts more than {before}, {self.text()[-300:]!r}",
            lambda: len(self.counts()) >= before + number,
            timeout,
        )
        return self.counts()[-1]

    def wait_for_beats(self, number=1, timeout=BOOT):
        before = len(self.beats())
        eventually(f"{number} beats more than {before}", lambda: len(self.beats()) >= before + number, timeout)

    def require_went_on_from(self, counters):
        """The first count since `forget` follows from what the disks held: the guest writes the first disk, the
        second, and then tells it, so between two disks that differ it has yet to tell the higher number."""
        highest = max(counters)
        allowed = (highest, highest + 1) if min(counters) == highest else (highest,)
        first = self.counts()[0]
        if first not in allowed:
            raise AssertionError(f"the guest of {self.path} went on with {first}, its disks held {counters}")

    def require_sound(self):
        """Memory and disks were never of different instants, and nothing has failed in the guest."""
        wrong = re.findall(r"(?m)^.*(?:differs|failed|EXT4-fs error|I/O error|panic|BUG:).*$", self.text())
        if wrong:
            raise AssertionError(f"the guest of {self.path} says: {wrong[:5]}")
        for a, b in re.findall(r"(?m)^begin (\d+) (\d+)$", self.text()):
            if int(a) - int(b) not in (0, 1):
                raise AssertionError(f"the guest of {self.path} began with {a} on one disk and {b} on the other")


# -- monitor and agent -------------------------------------------------------------------------------


class Refusal(Exception):
    """What a monitor or an agent answers instead of doing it."""


class Lines:
    """JSON lines over a socket."""

    def __init__(self, path, timeout):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.buffer = b""

    def send(self, message, before=b""):
        self.socket.sendall(before + json.dumps(message).encode() + b"\n")

    def line(self):
        while b"\n" not in self.buffer:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("the other side has closed the connection")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Qmp(Lines):
    """A client of a monitor socket. It remembers the events it reads."""

    def __init__(self, path, timeout=20.0):
        super().__init__(path, timeout)
        self.events = []
        self.greeting = json.loads(self.line())
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        identity = str(uuid.uuid4())
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.send({"execute": command, "arguments": names, "id": identity})
        while True:
            message = json.loads(self.line())
            if "event" in message:
                self.events.append(message)
            elif message.get("id") == identity:
                if "error" in message:
                    raise Refusal(message["error"]["desc"])
                return message["return"]

    def status(self):
        return self.execute("query-status")["status"]

    def pauses(self):
        """How long the guest stood still, each time since the connection was made, in milliseconds."""
        self.status()
        pauses, stopped = [], None
        for event in self.events:
            at = event["timestamp"]["seconds"] * 1000 + event["timestamp"]["microseconds"] / 1000
            if event["event"] == "STOP" and stopped is None:
                stopped = at
            elif event["event"] == "RESUME" and stopped is not None:
                pauses.append(at - stopped)
                stopped = None
        return pauses

    def moments(self, name):
        """When an event happened, in milliseconds since 1970."""
        self.status()
        return [
            event["timestamp"]["seconds"] * 1000 + event["timestamp"]["microseconds"] / 1000
            for event in self.events
            if event["event"] == name
        ]


class Agent(Lines):
    """A client of a guest agent, in step after `guest-sync-delimited`."""

    def __init__(self, path, timeout=20.0):
        super().__init__(path, timeout)
        number = uuid.uuid4().int & 0xFFFFFFF
        self.send({"execute": "guest-sync-delimited", "arguments": {"id": number}}, b"\xff")
        while True:
            line = self.line()
            if line.startswith(b"\xff") and json.loads(line[1:]).get("return") == number:
                return

    def execute(self, command, **arguments):
        self.send({"execute": command, "arguments": arguments} if arguments else {"execute": command})
        message = json.loads(self.line().lstrip(b"\xff"))
        if "error" in message:
            raise Refusal(message["error"]["desc"])
        return message["return"]


# -- machines ----------------------------------------------------------------------------------------


class Guest:
    """A machine of the tests, whoever starts it."""

    def __init__(
        self, directory, name, disks=2, megabytes=MEMORY_MB, append="", make=True, raw=0, raw_megabytes=DISK_MB
    ):
        self.name, self.id = name, str(uuid.uuid4()).upper()
        self.directory, self.megabytes = pathlib.Path(directory), megabytes
        self.kernel, self.initrd = built()
        # Without a check of its timer, which the translator does not pass on a busy host.
        self.append = f"console=ttyS0 quiet panic=-1 no_timer_check {append}".strip()
        self.disks = [Disk(self.directory / f"{name}-{letter}.qcow2") for letter in "abcdef"[:disks]]
        for disk in self.disks if make else []:
            disk.make()
        #: The last ones are raw.
        for letter in "abcdef"[disks : disks + raw]:
            self.disks.append(RawDisk(self.directory / f"{name}-{letter}.img").make(raw_megabytes))
        self.serial = Serial(self.directory / f"{name}.serial")
        self.inspection = self.directory / f"{name}.qmp"
        self.process = None

    def monitor(self, timeout=20.0):
        """A connection to the monitor that the server does not use."""
        return Qmp(self.inspection, timeout)

    def definition(self, extra_disks=(), arguments=(), machine="q35", **keys):
        """The definition of the machine for a server that starts it."""
        qemu = {
            "machine": machine,
            "kernel": self.kernel,
            "initrd": self.initrd,
            "append": self.append,
            "serial": self.serial.path,
            "arguments": ["-qmp", f"unix:{self.inspection},server=on,wait=off", *arguments],
        }
        return self.text(qemu, extra_disks, **keys)

    def attached(self, extra_disks=(), **keys):
        """The definition for a server that finds the machine running."""
        return self.text({"monitor": self.own("monitor"), "agent": self.own("agent")}, extra_disks, **keys)

    def text(self, qemu, extra_disks, **keys):
        disks = [{"name": disk.path.stem, "path": disk.path, "format": disk.kind} for disk in self.disks]
        lines = [f"{name} = {toml(value)}" for name, value in {
            "id": self.id, "name": self.name, "memory_mb": self.megabytes, **keys
        }.items()]
        lines += ["[qemu]", *(f"{name} = {toml(value)}" for name, value in qemu.items())]
        for disk in [*disks, *extra_disks]:
            lines += ["[[disk]]", *(f"{name} = {toml(value)}" for name, value in disk.items())]
        return "\n".join(lines) + "\n"

    # -- a machine that the tests start themselves -----------------------------------------------

    def own(self, name):
        return self.directory / f"{self.name}.{name}"

    def command(self):
        """As `docs/operating.md` says for machines that a server is to be attached to."""
        command = ["qemu-system-x86_64", "-name", self.name, "-uuid", self.id.lower(), "-machine", "q35", "-cpu", "max"]
        command += ["-m", str(self.megabytes), "-display", "none", "-nodefaults", "-no-user-config"]
        command += ["-kernel", self.kernel, "-initrd", self.initrd, "-append", self.append]
        command += ["-serial", f"file:{self.serial.path}"]
        for disk in self.disks:
            node = disk.path.stem
            description = {"driver": disk.kind, "node-name": node, "discard": "unmap"}
            description["file"] = {"driver": "file", "filename": str(disk.path)}
            command += ["-blockdev", json.dumps(description), "-device", f"virtio-blk-pci,drive={node}"]
        command += ["-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=agent,path={self.own('agent')},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        command += ["-qmp", f"unix:{self.own('monitor')},server=on,wait=off"]
        command += ["-qmp", f"unix:{self.inspection},server=on,wait=off"]
        return [str(part) for part in command]

    def start(self):
        """Starts the machine, so that somebody else than the server runs it."""
        with open(self.own("log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.serial.wait_for_counts()
        return self

    def end(self):
        """kill -9 of a machine that `start` started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def toml(value):
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return json.dumps(str(value))


class Host(server.Demo):
    """A server with the QEMU back-end and machines of the tests. Whatever it started ends with it."""

    def __init__(self, memory="auto", settings="", directory=None, **qemu):
        # Sockets lie deep below it, and the name of a socket has 107 bytes at most.
        super().__init__(directory or tempfile.mkdtemp(prefix="q-"))
        self.owned = directory is None
        self.guests = []
        self.collections = []
        # What the host could do with KVM is not the same everywhere.
        self.qemu = {"accelerator": "tcg", "memory": memory, **qemu}
        self.settings = settings

    def add(self, name, extra_disks=(), arguments=(), machine="q35", **options):
        """A machine for the server to start; to be called before the server starts."""
        one = Guest(self.data / "disks", name, **options)
        for disk in one.disks:
            if isinstance(disk, RawDisk):
                disk.home = self.data / "state" / "machines" / one.id
        self.define(one, one.definition(extra_disks, arguments, machine))
        return one

    def attach(self, name, **options):
        """A machine that runs already, and is known to the server."""
        one = Guest(self.data / "disks", name, **options)
        self.define(one, one.attached())
        return one.start()

    def define(self, one, text):
        self.guests.append(one)
        directory = self.data / "guests"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{one.name}.toml").write_text(text)

    def collect(self, name, members):
        self.collections.append({"name": name, "id": str(uuid.uuid4()), "members": members})

    def start(self, wait=60.0):
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = [server.EMPTY_CONFIG + 'machines_dir = "guests"', '[backend]\nkind = "qemu"', "[backend.qemu]"]
        lines += [f"{name} = {toml(value)}" for name, value in self.qemu.items()]
        for one in self.collections:
            lines += ["[[collection]]", *(f"{name} = {toml(value)}" for name, value in one.items())]
        (self.data / "wsnapd.toml").write_text("\n".join([*lines, self.settings]) + "\n")
        return super().start(wait)

    def close(self):
        super_owned, self.owned = self.owned, False
        super().close()
        for pid in self.machine_pids():
            end(pid)
        for one in self.guests:
            one.end()
        if super_owned:
            shutil.rmtree(self.directory, ignore_errors=True)

    def pypsrp(self):
        """A client over pypsrp."""
        address = urlsplit(self.https_url)
        send = wsman.PypsrpSend(address.hostname, address.port, self.user, self.password, self.ca)
        return wsman.Cim(send, "pypsrp")

    def merged(self, cim):
        """Waits until nothing is merged any more."""
        for job in merges(cim):
            cim.wait(job, timeout=120)

    # -- what runs -------------------------------------------------------------------------------

    def machine_directory(self, one):
        return self.state() / "machines" / one.id

    def machine_pids(self):
        """The processes of QEMU that the server started, by their process files."""
        found = (self.pid(path.parent.name) for path in self.data.glob("state/machines/*/qemu.pid"))
        return [pid for pid in found if pid]

    def pid(self, identity):
        """The process of a machine, None when it does not run. A number that somebody else has got is not it."""
        identity = identity.id if isinstance(identity, Guest) else identity
        try:
            number = int((self.data / "state" / "machines" / identity / "qemu.pid").read_text())
            command = pathlib.Path(f"/proc/{number}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return number if identity.lower().encode() in command.lower() else None

    def records(self, table):
        """What the store holds."""
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(f"file:{self.state() / 'wsnapd.db'}?mode=ro", uri=True)) as connection:
            return [json.loads(row[0]) for row in connection.execute(f"SELECT data FROM {table}")]

    def record(self, snapshot):
        """The record of a snapshot, by its reference."""
        identity = tag_of(snapshot)
        return next(one for one in self.records("snapshot") if one["id"].upper() == identity)

    def traces(self):
        """Everything that a snapshot leaves: tags in the disks, and files of memory and of disks."""
        tags = {disk.path.name: disk.tags() for one in self.guests for disk in one.disks if disk.tags()}
        return tags, self.snapshot_files(), self.leftovers()


def end(pid):
    """kill -9 of a process that is not our child, until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
        eventually(f"process {pid} ended", lambda: not alive(pid), 10)
    except ProcessLookupError:
        pass


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- through the server ------------------------------------------------------------------------------


def tag_of(snapshot):
    """The GUID of a snapshot, which is its tag in the disks."""
    return snapshot.keys["InstanceID"].removeprefix("Microsoft:").upper()


def state_of(cim, machine):
    return cim.get(machine).number("EnabledState")


def change(cim, machine, state, timeout=120.0):
    """RequestStateChange, to its end."""
    cim.run(machine, "RequestStateChange", timeout=timeout, RequestedState=state)
    seen = state_of(cim, machine)
    if seen != state:
        raise AssertionError(f"the machine is in state {seen} after a change to {state}")


def begin(cim, service, machine, kind=2, **settings):
    """CreateSnapshot; gives the reference of the job."""
    embedded = wsman.settings("Msvm_VirtualSystemSnapshotSettingData", **settings) if settings else ""
    output = cim.invoke(
        service, "CreateSnapshot", AffectedSystem=machine, SnapshotSettings=embedded, SnapshotType=kind
    )
    if output["ReturnValue"] != "4096":
        raise AssertionError(f"CreateSnapshot returned {output['ReturnValue']}")
    return output["Job"]


def merges(cim):
    """References of the jobs that merge disks."""
    return cim.query(V2, "SELECT * FROM Msvm_ConcreteJob WHERE JobType = 50", mode="EnumerateEPR")


def running_of(cim):
    """The machines that run, by name."""
    found = cim.query(V2, "SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'")
    return {one["ElementName"]: one.number("EnabledState") for one in found}


def set_up(cim, machine, **properties):
    """ModifySystemSettings on the active settings of a machine."""
    identity = f"Microsoft:{machine.keys['Name']}"
    text = wsman.settings(InstanceID=identity, **properties).replace('TYPE="uint8"', 'TYPE="uint16"')
    (service,) = cim.references_of_class(V2, "Msvm_VirtualSystemManagementService")
    output = cim.invoke(service, "ModifySystemSettings", SystemSettings=text)
    if output["ReturnValue"] != "0":
        raise AssertionError(f"ModifySystemSettings returned {output['ReturnValue']}")


#: UserSnapshotType: what a snapshot of type 2 of a running machine is.
DISABLED, PRODUCTION, PRODUCTION_ONLY, STANDARD = 2, 3, 4, 5
