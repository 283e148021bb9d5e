//! What the machines of the demo run: a program in the first sector of their disk that counts.
//!
//! No kernel can be fetched for a demo, and that of the host is often not readable. This program needs the firmware
//! that comes with QEMU only. Four times a second it raises a number in memory, writes it to the second sector of the
//! first two disks, and prints it on the serial line; a machine that goes on from a snapshot goes on counting there.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of QEMU that the demo needs.
const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", IMAGE_TOOL];
const IMAGE_TOOL: &str = "qemu-img";
/// The length of a sector, in bytes.
const SECTOR: u64 = 512;
/// Where the mark of a boot sector lies, in bytes.
const MARK_AT: u64 = 510;
/// The mark of a boot sector.
const MARK: [u8; 2] = [0x55, 0xaa];
/// What the second sector begins with; the program raises the number.
const COUNTER: &[u8] = b"count 00000000\n";
/// The program, for the first sector: 16-bit code that the firmware starts at 0x7c00.
#[rustfmt::skip]
const PROGRAM: [u8; 93] = [
    0x31, 0xc0,        // xorw %ax, %ax
    0x8e, 0xd8,        // movw %ax, %ds
    0x8e, 0xc0,        // movw %ax, %es
    0x8e, 0xd0,        // movw %ax, %ss
    0xbc, 0x00, 0x7c,  // movw $0x7c00, %sp
    0xfc,              // cld
    0xb8, 0x01, 0x02,  // movw $0x0201, %ax: read one sector
    0xbb, 0x00, 0x7e,  // movw $0x7e00, %bx: to here
    0xb9, 0x02, 0x00,  // movw $0x0002, %cx: the second one
    0xb6, 0x00,        // movb $0, %dh
    0xcd, 0x13,        // int $0x13: of the disk in %dl
    0xbf, 0x0d, 0x7e,  // again: movw $0x7e0d, %di: the last digit
    0xfe, 0x05,        // carry: incb (%di)
    0x80, 0x3d, 0x39,  // cmpb $'9', (%di)
    0x76, 0x06,        // jbe counted
    0xc6, 0x05, 0x30,  // movb $'0', (%di)
    0x4f,              // decw %di
    0xeb, 0xf3,        // jmp carry
    0xba, 0x80, 0x00,  // counted: movw $0x0080, %dx: the first disk
    0xb8, 0x01, 0x03,  // disk: movw $0x0301, %ax: write one sector
    0xbb, 0x00, 0x7e,  // movw $0x7e00, %bx: from here
    0xb9, 0x02, 0x00,  // movw $0x0002, %cx: the second one
    0xcd, 0x13,        // int $0x13
    0x42,              // incw %dx: the next disk
    0x80, 0xfa, 0x82,  // cmpb $0x82, %dl: of two
    0x72, 0xef,        // jb disk
    0xbe, 0x00, 0x7e,  // movw $0x7e00, %si: what is printed
    0xba, 0xfd, 0x03,  // line: movw $0x03fd, %dx: the state of the serial line
    0xec,              // ready: inb %dx, %al
    0xa8, 0x20,        // testb $0x20, %al: until it takes a byte
    0x74, 0xfb,        // jz ready
    0xac,              // lodsb
    0xba, 0xf8, 0x03,  // movw $0x03f8, %dx
    0xee,              // outb %al, %dx
    0x3c, 0x0a,        // cmpb $'\n', %al
    0x75, 0xef,        // jne line
    0xb4, 0x86,        // movb $0x86, %ah: sleep
    0xb9, 0x03, 0x00,  // movw $0x0003, %cx: for 0x3d090 microseconds,
    0xba, 0x90, 0xd0,  // movw $0xd090, %dx: a quarter of a second
    0xcd, 0x15,        // int $0x15
    0xeb, 0xbc,        // jmp again
];

/// True when the programs of QEMU are found in `PATH`.
#[must_use]
pub(super) fn qemu_is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    PROGRAMS.into_iter().all(found)
}

/// Makes a bootable qcow2 disk out of a raw file, which goes away.
pub(super) fn make_disk(raw: &Path, disk: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(raw)?;
    file.write_all_at(&PROGRAM, 0)?;
    file.write_all_at(&MARK, MARK_AT)?;
    let mut sector = COUNTER.to_vec();
    sector.resize(SECTOR.try_into().unwrap_or_default(), 0);
    file.write_all_at(&sector, SECTOR)?;
    // Under another name until it is whole.
    let unfinished: PathBuf = disk.with_extension("new");
    let made = Command::new(IMAGE_TOOL)
        .args(["convert", "-q", "-f", "raw", "-O", "qcow2"])
        .args([raw, &unfinished])
        .stdin(Stdio::null())
        .output()?;
    if !made.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).trim().to_owned()));
    }
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, disk)?;
    fs::remove_file(raw)
}
