//! HMAC-MD5 and RC4 over one message in one pass.
//!
//! Each of the two is one long chain of steps that wait for each other, so a processor that does them one after the
//! other is half idle all the time. A step of MD5 is done with each byte of RC4 here: the sealing of a message takes
//! about as long as either of the two alone, and it is most of what sealing costs. Everything else of NTLM is done
//! by `md-5`, `hmac` and `rc4`, which the tests measure this by.

use std::array;

use md5::block_api::compress;
use zeroize::Zeroizing;

use super::crypto::{Block, md5};

/// A block of MD5.
type Words = [u32; 16];
/// The chaining value of MD5 (RFC 1321 §3.3 to §3.5).
type Chain = [u32; 4];

const INITIAL: Chain = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// What HMAC adds to the key (RFC 2104 §2).
const INNER_PAD: u32 = 0x3636_3636;
const OUTER_PAD: u32 = 0x5c5c_5c5c;

/// The table of RFC 1321 §3.4: `floor(2^32 * abs(sin(n)))` for n from 1 to 64.
const SINES: [Words; 4] = [
    [
        0xd76a_a478,
        0xe8c7_b756,
        0x2420_70db,
        0xc1bd_ceee,
        0xf57c_0faf,
        0x4787_c62a,
        0xa830_4613,
        0xfd46_9501,
        0x6980_98d8,
        0x8b44_f7af,
        0xffff_5bb1,
        0x895c_d7be,
        0x6b90_1122,
        0xfd98_7193,
        0xa679_438e,
        0x49b4_0821,
    ],
    [
        0xf61e_2562,
        0xc040_b340,
        0x265e_5a51,
        0xe9b6_c7aa,
        0xd62f_105d,
        0x0244_1453,
        0xd8a1_e681,
        0xe7d3_fbc8,
        0x21e1_cde6,
        0xc337_07d6,
        0xf4d5_0d87,
        0x455a_14ed,
        0xa9e3_e905,
        0xfcef_a3f8,
        0x676f_02d9,
        0x8d2a_4c8a,
    ],
    [
        0xfffa_3942,
        0x8771_f681,
        0x6d9d_6122,
        0xfde5_380c,
        0xa4be_ea44,
        0x4bde_cfa9,
        0xf6bb_4b60,
        0xbebf_bc70,
        0x289b_7ec6,
        0xeaa1_27fa,
        0xd4ef_3085,
        0x0488_1d05,
        0xd9d4_d039,
        0xe6db_99e5,
        0x1fa2_7cf8,
        0xc4ac_5665,
    ],
    [
        0xf429_2244,
        0x432a_ff97,
        0xab94_23a7,
        0xfc93_a039,
        0x655b_59c3,
        0x8f0c_cc92,
        0xffef_f47d,
        0x8584_5dd1,
        0x6fa8_7e4f,
        0xfe2c_e6e0,
        0xa301_4314,
        0x4e08_11a1,
        0xf753_7e82,
        0xbd3a_f235,
        0x2ad7_d2bb,
        0xeb86_d391,
    ],
];

/// Which side of the key stream is the clear text, which the sum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clear {
    /// What goes in: a message is sealed.
    Before,
    /// What comes out: a message is unsealed.
    After,
}

/// RC4, wiped when it is dropped.
pub(super) struct KeyStream {
    permutation: Zeroizing<[u8; 256]>,
    i: u8,
    j: u8,
}

impl KeyStream {
    pub(super) fn new(key: &Block) -> Self {
        let mut permutation = Zeroizing::new(array::from_fn(|n| n.to_le_bytes()[0]));
        let mut j = 0_u8;
        for (i, key) in (0..=255).zip(key.iter().cycle()) {
            j = j.wrapping_add(at(&permutation, i)).wrapping_add(*key);
            permutation.swap(usize::from(i), usize::from(j));
        }
        Self { permutation, i: 0, j: 0 }
    }

    /// Seals or unseals bytes without a sum of them.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte ^= next(&mut self.permutation, &mut self.i, &mut self.j);
        }
    }

    /// Seals or unseals a message in place, and gives the HMAC-MD5 of `first` and the clear text.
    pub(super) fn apply_and_sum(&mut self, key: &Block, first: u32, message: &mut [u8], clear: Clear) -> Block {
        // Every block is summed while the next one is enciphered.
        let (mut chain, mut due, mut last) = (INITIAL, padded(key, INNER_PAD), first);
        let length = due.len() * 4 + 4 + message.len();
        let (blocks, rest) = message.as_chunks_mut::<64>();
        for block in blocks {
            let before = words(block);
            let after = self.block(&before, &due, &mut chain);
            *block = bytes(&after);
            let [sixteen @ .., next] = following(last, if clear == Clear::Before { &before } else { &after });
            (due, last) = (sixteen, next);
        }
        let mut end = Vec::with_capacity(3 * 64);
        end.extend(bytes(&due));
        end.extend(last.to_le_bytes());
        if clear == Clear::Before {
            end.extend_from_slice(rest);
            self.apply(rest);
        } else {
            self.apply(rest);
            end.extend_from_slice(rest);
        }
        let inner = finish(chain, end, length);
        md5(&[&bytes(&padded(key, OUTER_PAD)), &inner])
    }

    /// Enciphers a block, and meanwhile takes another into a sum.
    fn block(&mut self, block: &Words, due: &Words, chain: &mut Chain) -> Words {
        let Self { permutation, i: from, j: to } = self;
        let (mut i, mut j) = (*from, *to);
        let mut key_byte = || next(permutation, &mut i, &mut j);
        let mut state = *chain;
        let [sines_f, sines_g, sines_h, sines_i] = &SINES;
        // RFC 1321 §3.4, with F and G in forms of fewer steps.
        let key_stream = [
            round(&mut state, due, sines_f, (0, 1), [7, 12, 17, 22], |x, y, z| z ^ (x & (y ^ z)), &mut key_byte),
            round(&mut state, due, sines_g, (1, 5), [5, 9, 14, 20], |x, y, z| (x & z) + (y & !z), &mut key_byte),
            round(&mut state, due, sines_h, (5, 3), [4, 11, 16, 23], |x, y, z| x ^ y ^ z, &mut key_byte),
            round(&mut state, due, sines_i, (0, 7), [6, 10, 15, 21], |x, y, z| y ^ (x | !z), &mut key_byte),
        ];
        (*from, *to) = (i, j);
        for (word, add) in chain.iter_mut().zip(state) {
            *word = word.wrapping_add(add);
        }
        let mut after = *block;
        for (word, key) in after.iter_mut().zip(key_stream.as_flattened()) {
            *word ^= key;
        }
        after
    }
}

fn words(block: &[u8; 64]) -> Words {
    let mut words = Words::default();
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

fn bytes(words: &Words) -> [u8; 64] {
    let mut block = [0; 64];
    for (bytes, word) in block.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    block
}

/// A word and the block behind it.
fn following(word: u32, block: &Words) -> [u32; 17] {
    let mut all = [word; 17];
    for (to, from) in all.iter_mut().skip(1).zip(block) {
        *to = *from;
    }
    all
}

/// The key of HMAC with one of its pads.
fn padded(key: &Block, pad: u32) -> Words {
    let mut words = [pad; 16];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
        *word ^= u32::from_le_bytes(*bytes);
    }
    words
}

/// Sixteen steps of MD5, which take the words of a block in the order `start`, `start + stride` and so on, and as
/// many bytes of the key stream.
#[expect(clippy::indexing_slicing, reason = "all three are within what they count in")]
fn round(
    state: &mut Chain,
    block: &Words,
    sines: &Words,
    (start, stride): (usize, usize),
    rotations: [u32; 4],
    mix: impl Fn(u32, u32, u32) -> u32,
    mut key_byte: impl FnMut() -> u8,
) -> [u32; 4] {
    array::from_fn(|quarter| {
        u32::from_le_bytes(array::from_fn(|n| {
            let step = 4 * quarter + n;
            let [a, b, c, d] = *state;
            let word = block[(start + stride * step) % 16];
            let sum = a.wrapping_add(word).wrapping_add(sines[step]).wrapping_add(mix(b, c, d));
            *state = [d, b.wrapping_add(sum.rotate_left(rotations[n])), b, c];
            key_byte()
        }))
    })
}

/// The next byte of the key stream.
#[inline]
fn next(permutation: &mut [u8; 256], i: &mut u8, j: &mut u8) -> u8 {
    *i = i.wrapping_add(1);
    let x = at(permutation, *i);
    *j = j.wrapping_add(x);
    let y = at(permutation, *j);
    permutation.swap(usize::from(*i), usize::from(*j));
    at(permutation, x.wrapping_add(y))
}

#[expect(clippy::indexing_slicing, reason = "a byte is always within 256 places")]
#[inline]
fn at(permutation: &[u8; 256], place: u8) -> u8 {
    permutation[usize::from(place)]
}

/// MD5 of a message of this length, of which only this end is not in the chain yet.
fn finish(mut chain: Chain, mut end: Vec<u8>, length: usize) -> Block {
    end.push(0x80);
    end.resize((end.len() + 8).next_multiple_of(64) - 8, 0);
    // What is in memory is far below 2^61 bytes.
    end.extend(u64::try_from(8 * length).unwrap_or(u64::MAX).to_le_bytes());
    compress(&mut chain, end.as_chunks().0);
    let mut value = Block::default();
    for (bytes, word) in value.as_chunks_mut().0.iter_mut().zip(chain) {
        *bytes = word.to_le_bytes();
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rc4::StreamCipher;

    use super::super::crypto::{hmac_md5, rc4};
    use super::*;

    /// What the crates make of the same message.
    fn one_after_the_other(cipher: &mut rc4::Rc4, key: &Block, first: u32, message: &mut [u8], clear: Clear) -> Block {
        let sum = |clear: &[u8]| *hmac_md5(key, &[&first.to_le_bytes(), clear]);
        match clear {
            Clear::Before => {
                let value = sum(message);
                cipher.apply_keystream(message);
                value
            }
            Clear::After => {
                cipher.apply_keystream(message);
                sum(message)
            }
        }
    }

    fn agree(key: Block, messages: &[Vec<u8>], clear: Clear) {
        let (mut stitched, mut cipher) = (KeyStream::new(&key), rc4(&key));
        for (first, message) in (7_u32..).zip(messages) {
            let (mut mine, mut theirs) = (message.clone(), message.clone());
            let value = stitched.apply_and_sum(&key, first, &mut mine, clear);
            assert_eq!(value, one_after_the_other(&mut cipher, &key, first, &mut theirs, clear), "{}", message.len());
            assert_eq!(mine, theirs, "{}", message.len());
            let (mut mine, mut theirs) = (value, value);
            stitched.apply(&mut mine);
            cipher.apply_keystream(&mut theirs);
            assert_eq!(mine, theirs, "behind {}", message.len());
        }
    }

    #[test]
    fn every_length_agrees_with_the_crates() {
        let messages: Vec<Vec<u8>> = (0..300).map(|length| (0..=255).cycle().take(length).collect()).collect();
        for clear in [Clear::Before, Clear::After] {
            agree(*b"0123456789abcdef", &messages, clear);
        }
    }

    proptest! {
        #[test]
        fn any_key_and_messages_agree_with_the_crates(
            key: Block,
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 1..4),
            seals: bool,
        ) {
            agree(key, &messages, if seals { Clear::Before } else { Clear::After });
        }
    }
}
