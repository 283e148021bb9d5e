//! Reading the dirty bitmaps that a qcow2 image keeps, as QEMU's description of the format has them.
//!
//! A process that has the image open keeps its bitmaps in memory and marks those in the file as in use; such a bitmap
//! is not read here, for it says nothing about what came since.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The first bytes of an image.
const MAGIC: u32 = 0x5146_49fb;
/// The extension of the header that says where the bitmaps are.
const BITMAPS: u32 = 0x2385_2875;
/// The bit of the automatically cleared features which says that whoever wrote last knew about bitmaps.
const KNOWN: u64 = 1;
/// The flag of a bitmap that has not seen everything.
const IN_USE: u32 = 1;
/// Longest directory of bitmaps, in bytes; more is not made by QEMU.
const DIRECTORY_LIMIT: u64 = 64 << 20;
/// Most entries of the table of one bitmap: 64 GiB of bits.
const TABLE_LIMIT: u32 = 1 << 20;
/// Where an entry of a table has the place of its cluster.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;

/// The parts of a disk that a bitmap marks: offset and length in bytes, in rising order, none touching the next. They
/// may reach beyond the end of the disk.
pub(super) type Parts = Vec<(u64, u64)>;

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Numbers out of a piece of the image, big endian as all of it is.
struct Piece(Vec<u8>);

impl Piece {
    fn read(file: &File, at: u64, length: u64) -> io::Result<Self> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Self(bytes))
    }

    fn bytes<const N: usize>(&self, at: usize) -> io::Result<[u8; N]> {
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| wrong("the image ends too early"))
    }

    fn u16(&self, at: usize) -> io::Result<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    fn u32(&self, at: usize) -> io::Result<u32> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> io::Result<u64> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

/// Where the directory of bitmaps lies, and how large clusters are.
struct Header {
    directory: u64,
    size: u64,
    count: u32,
    cluster: u64,
}

impl Header {
    /// `None` for an image without bitmaps that can be relied on.
    fn read(file: &File) -> io::Result<Option<Self>> {
        let head = Piece::read(file, 0, 104)?;
        if head.u32(0)? != MAGIC {
            return Err(wrong("this is no qcow2 image"));
        }
        let bits = head.u32(20)?;
        if head.u32(4)? < 3 || head.u64(88)? & KNOWN == 0 || !(9..=21).contains(&bits) {
            return Ok(None);
        }
        let cluster = 1_u64 << bits;
        // The extensions lie in the first cluster.
        let (first, mut at) = (Piece::read(file, 0, cluster)?, usize::try_from(head.u32(100)?).unwrap_or(usize::MAX));
        loop {
            let (kind, length) = (first.u32(at)?, usize::try_from(first.u32(at + 4)?).unwrap_or(usize::MAX));
            match kind {
                0 => return Ok(None),
                BITMAPS => {
                    let (count, size, directory) = (first.u32(at + 8)?, first.u64(at + 16)?, first.u64(at + 24)?);
                    if size > DIRECTORY_LIMIT {
                        return Err(wrong("the directory of bitmaps is too long"));
                    }
                    return Ok(Some(Self { directory, size, count, cluster }));
                }
                _ => at = at.saturating_add(8).saturating_add(length.saturating_add(7) & !7).min(first.0.len()),
            }
        }
    }
}

/// The parts that the bitmap of this name marks; `None` when there is none that has seen everything.
///
/// # Errors
/// An [`io::Error`]; [`io::ErrorKind::InvalidData`] for an image that is broken.
pub(super) fn marked_parts(file: &File, name: &str) -> io::Result<Option<Parts>> {
    let Some(header) = Header::read(file)? else { return Ok(None) };
    let directory = Piece::read(file, header.directory, header.size)?;
    let mut at = 0;
    for _ in 0..header.count {
        let (table, entries, flags) = (directory.u64(at)?, directory.u32(at + 8)?, directory.u32(at + 12)?);
        let [_, granularity] = directory.bytes(at + 16)?;
        let (name_length, extra) = (usize::from(directory.u16(at + 18)?), directory.u32(at + 20)?);
        let begin = at + 24 + usize::try_from(extra).map_err(io::Error::other)?;
        let end = begin + name_length;
        if directory.0.get(begin..end) == Some(name.as_bytes()) {
            if flags & IN_USE != 0 {
                return Ok(None);
            }
            if entries > TABLE_LIMIT || granularity > 31 {
                return Err(wrong("the bitmap is too large"));
            }
            return read_parts(file, &header, table, entries, granularity).map(Some);
        }
        at = (end + 7) & !7;
    }
    Ok(None)
}

fn read_parts(file: &File, header: &Header, table: u64, entries: u32, granularity: u8) -> io::Result<Parts> {
    let table = Piece::read(file, table, u64::from(entries) * 8)?;
    let mut parts = Parts::new();
    let mut mark = |first: u64, count: u64| {
        let (start, length) = (first << granularity, count << granularity);
        match parts.last_mut() {
            Some((offset, known)) if *offset + *known == start => *known += length,
            _ => parts.push((start, length)),
        }
    };
    let bits = header.cluster * 8;
    for number in 0..u64::from(entries) {
        let entry = table.u64(usize::try_from(number * 8).map_err(io::Error::other)?)?;
        let first = number * bits;
        match entry & PLACE {
            0 if entry & 1 == 0 => {}
            0 => mark(first, bits),
            place => {
                let cluster = Piece::read(file, place, header.cluster)?;
                for (index, byte) in (0_u64..).zip(&cluster.0).filter(|(_, byte)| **byte != 0) {
                    (0..8_u64).filter(|bit| byte >> bit & 1 == 1).for_each(|bit| mark(first + index * 8 + bit, 1));
                }
            }
        }
    }
    Ok(parts)
}

/// Parts cut off at the end of a disk of `length` bytes.
pub(super) fn within(parts: Parts, length: u64) -> Parts {
    let cut = |(offset, size): (u64, u64)| (offset, size.min(length.saturating_sub(offset)));
    parts.into_iter().map(cut).filter(|(_, size)| *size > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of clusters of 512 bytes with one bitmap of four tables' worth of bits.
    fn image(flags: u32, autoclear: u64) -> File {
        let mut bytes = vec![0_u8; 0x1000];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, &MAGIC.to_be_bytes());
        put(4, &3_u32.to_be_bytes());
        put(20, &9_u32.to_be_bytes());
        put(88, &autoclear.to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        // An extension of five bytes that means nothing here comes first.
        put(104, &[0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5]);
        put(120, &BITMAPS.to_be_bytes());
        put(124, &24_u32.to_be_bytes());
        put(128, &2_u32.to_be_bytes());
        put(136, &72_u64.to_be_bytes());
        put(144, &0x200_u64.to_be_bytes());
        for (at, name, length) in [(0x200, &b"other-one"[..], 40), (0x228, b"wanted", 32)] {
            put(at, &0x400_u64.to_be_bytes());
            put(at + 8, &4_u32.to_be_bytes());
            put(at + 12, &flags.to_be_bytes());
            put(at + 16, &[1, 16]);
            put(at + 18, &u16::try_from(name.len()).unwrap().to_be_bytes());
            put(at + 24, name);
            assert_eq!((24 + name.len() + 7) & !7, length);
        }
        for (number, entry) in [0_u64, 1, 0x600, 0].into_iter().enumerate() {
            put(0x400 + number * 8, &entry.to_be_bytes());
        }
        put(0x600, &[0b0000_0001]);
        put(0x602, &[0b1000_0000, 0b0000_0011]);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    #[test]
    fn marked_parts_are_found_and_joined() {
        const UNIT: u64 = 1 << 16;
        let parts = marked_parts(&image(0, 1), "wanted").unwrap().unwrap();
        // All of the second cluster and the first bit of the third are one part.
        assert_eq!(parts, [(4096 * UNIT, 4097 * UNIT), ((8192 + 23) * UNIT, 3 * UNIT)]);
        assert_eq!(within(parts, 4100 * UNIT + 7), [(4096 * UNIT, 4 * UNIT + 7)]);
    }

    #[test]
    fn what_has_not_seen_everything_is_not_read() {
        assert_eq!(marked_parts(&image(IN_USE, 1), "wanted").unwrap(), None);
        assert_eq!(marked_parts(&image(0, 0), "wanted").unwrap(), None);
        assert_eq!(marked_parts(&image(0, 1), "want").unwrap(), None);
        let empty = tempfile::tempfile().unwrap();
        empty.write_all_at(&[0; 512], 0).unwrap();
        assert!(marked_parts(&empty, "wanted").is_err());
        let cut = image(0, 1);
        cut.set_len(0x500).unwrap();
        assert!(marked_parts(&cut, "wanted").is_err());
    }
}
