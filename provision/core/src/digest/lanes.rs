//! The SHA-256 compression function (FIPS 180-4, 6.2.2) over two independent messages at once.
//!
//! A round of the SHA extensions has a latency of several cycles, and a new one can start every one or two. A single
//! message leaves most of the unit idle; two messages with alternating rounds take hardly longer than one. Processors
//! without these instructions compress one message after the other with the `sha2` crate, the reference of the tests.

/// The state between blocks: the eight working words `a` to `h`.
pub(super) type State = [u32; 8];
/// One message block: 64 bytes.
pub(super) type Block = [u8; 64];

/// Compresses `first` into the first state and `second` into the second. Both have as many blocks.
pub(super) fn compress_two(states: [&mut State; 2], first: &[Block], second: &[Block]) {
    debug_assert_eq!(first.len(), second.len(), "lanes of one length");
    #[cfg(target_arch = "x86_64")]
    if x86::is_there() {
        // SAFETY: the instructions are there.
        return unsafe { x86::compress_two(states, first, second) };
    }
    let [a, b] = states;
    sha2::block_api::compress256(a, first);
    sha2::block_api::compress256(b, second);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32, _mm_storeu_si128,
    };

    use super::{Block, State};

    /// FIPS 180-4, 4.2.2.
    #[rustfmt::skip]
    static K: [u32; 64] = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ];

    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
    }

    /// A message's state as the instructions want it.
    #[derive(Clone, Copy)]
    struct Lane {
        abef: __m128i,
        cdgh: __m128i,
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn load(state: &State) -> Lane {
        // SAFETY: eight words are two vectors.
        let (dcba, hgfe) = unsafe {
            (_mm_loadu_si128(state.as_ptr().cast()), _mm_loadu_si128(state.as_ptr().add(4).cast()))
        };
        let cdab = _mm_shuffle_epi32::<0xB1>(dcba);
        let efgh = _mm_shuffle_epi32::<0x1B>(hgfe);
        Lane { abef: _mm_alignr_epi8::<8>(cdab, efgh), cdgh: _mm_blend_epi16::<0xF0>(efgh, cdab) }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn store(lane: Lane, state: &mut State) {
        let feba = _mm_shuffle_epi32::<0x1B>(lane.abef);
        let dchg = _mm_shuffle_epi32::<0xB1>(lane.cdgh);
        // SAFETY: eight words are two vectors.
        unsafe {
            _mm_storeu_si128(state.as_mut_ptr().cast(), _mm_blend_epi16::<0xF0>(feba, dchg));
            _mm_storeu_si128(state.as_mut_ptr().add(4).cast(), _mm_alignr_epi8::<8>(dchg, feba));
        }
    }

    /// The block's words, which are big-endian.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn words(block: &Block) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        // SAFETY: 64 bytes are four vectors.
        let word = |at: usize| unsafe {
            _mm_shuffle_epi8(_mm_loadu_si128(block.as_ptr().add(at * 16).cast()), swap)
        };
        [word(0), word(1), word(2), word(3)]
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds(lane: &mut Lane, words: __m128i, group: usize) {
        // SAFETY: there are sixteen groups of four constants.
        let k = unsafe { _mm_loadu_si128(K.as_ptr().add(group * 4).cast()) };
        let wk = _mm_add_epi32(words, k);
        lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, wk);
        lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32::<0x0E>(wk));
    }

    /// The four words that follow the sixteen in `w`, the oldest of which are at `at`.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn next_words(w: &[__m128i; 4], at: usize) -> __m128i {
        let [w0, w1, w2, w3] = [w[at % 4], w[(at + 1) % 4], w[(at + 2) % 4], w[(at + 3) % 4]];
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
        _mm_sha256msg2_epu32(sum, w3)
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub(super) fn compress_two(states: [&mut State; 2], first: &[Block], second: &[Block]) {
        let [state_a, state_b] = states;
        let (mut a, mut b) = (load(state_a), load(state_b));
        for (block_a, block_b) in first.iter().zip(second) {
            let (before_a, before_b) = (a, b);
            let (mut wa, mut wb) = (words(block_a), words(block_b));
            // Unrolled by hand: indices that are known keep the words in registers.
            macro_rules! rounds {
                ($($group:literal)*) => {$(
                    four_rounds(&mut a, wa[$group % 4], $group);
                    four_rounds(&mut b, wb[$group % 4], $group);
                    if $group < 12 {
                        wa[$group % 4] = next_words(&wa, $group);
                        wb[$group % 4] = next_words(&wb, $group);
                    }
                )*};
            }
            rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            a = Lane {
                abef: _mm_add_epi32(a.abef, before_a.abef),
                cdgh: _mm_add_epi32(a.cdgh, before_a.cdgh),
            };
            b = Lane {
                abef: _mm_add_epi32(b.abef, before_b.abef),
                cdgh: _mm_add_epi32(b.cdgh, before_b.cdgh),
            };
        }
        store(a, state_a);
        store(b, state_b);
    }
}
