//! The largest TCP segment that an opening packet offers to take.

use core::hint::black_box;
use core::mem::size_of;

use super::{Frame, Packet, TRANSPORT_OFFSET_MAX, TcpHeader};
use crate::{Address, Be16, Protocol};

/// The option of an opening TCP segment that limits the other side's segments (RFC 9293, 3.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Offset of the size from the start of the frame.
    pub offset: u16,
    /// Bytes of a segment behind its header.
    pub size: Be16,
}

/// The largest segment that a TCP segment with SYN offers to take, if it says so.
#[inline(always)]
pub fn max_segment_size<A: Address, const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
    packet: &Packet<A>,
) -> Option<SegmentSize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MAX_SEGMENT_SIZE: u8 = 2;
    /// Systems put it first; forty bytes hold twenty options of two.
    const OPTIONS_MAX: usize = 20;
    /// More than the options' length can be, and a mask.
    const OPTIONS_MASK: usize = 63;
    if packet.tuple.protocol != Protocol::TCP || packet.tcp_flags & crate::tcp::SYN == 0 {
        return None;
    }
    let transport = usize::from(packet.transport_offset) & TRANSPORT_OFFSET_MAX;
    let tcp: TcpHeader = frame.read(transport)?;
    let options = transport + size_of::<TcpHeader>();
    let len = (usize::from(tcp.data_offset >> 4) * 4).checked_sub(size_of::<TcpHeader>())?;
    let mut at = 0;
    for _ in 0..OPTIONS_MAX {
        if at >= len {
            return None;
        }
        let kind: u8 = frame.read(options + at)?;
        let option_len = match kind {
            END => return None,
            NO_OPERATION => 1,
            _ => usize::from(frame.read::<u8>(options + at + 1)?),
        };
        let next = at + option_len;
        if next > len || (kind != NO_OPERATION && option_len < 2) {
            return None;
        }
        if kind == MAX_SEGMENT_SIZE && option_len == 4 {
            let offset = options + at + 2;
            return frame.read(offset).map(|size| SegmentSize {
                offset: offset as u16,
                size,
            });
        }
        // Changes nothing, and the compiler must not know: verifiers before 6.4 look at every way
        // through the options, a million instructions of them, unless the bounds at the loop's head
        // are the same each time.
        at = black_box(next) & OPTIONS_MASK;
    }
    None
}
