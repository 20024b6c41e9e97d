//! Bytes of the ring buffer -> [`FlowEvent`]. Pure; any input gives an event or a reason why not.

use ebpf_abi::FlowEvent;
use ebpf_abi::event::EventKind;
use thiserror::Error;

/// Why a record of the ring buffer is not an event this agent understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Shorter than an event.
    #[error("{len} bytes, {} expected", size_of::<FlowEvent>())]
    Short {
        /// Bytes of the record.
        len: usize,
    },
    /// Of a class that is not known.
    #[error("unknown event kind {kind}")]
    Kind {
        /// Number of the class.
        kind: u8,
    },
    /// Neither IPv4 nor IPv6.
    #[error("unknown address family {family}")]
    Family {
        /// Number of the family.
        family: u8,
    },
}

/// Decodes one record. Bytes behind the event are left alone: later programs may append payload.
pub fn decode(bytes: &[u8]) -> Result<FlowEvent, DecodeError> {
    let event = bytes
        .get(..size_of::<FlowEvent>())
        .ok_or(DecodeError::Short { len: bytes.len() })?;
    let event: FlowEvent = bytemuck::pod_read_unaligned(event);
    if !matches!(
        event.kind,
        EventKind::DROP | EventKind::TRACE | EventKind::SOCKET
    ) {
        return Err(DecodeError::Kind { kind: event.kind.0 });
    }
    if !matches!(event.family, 4 | 6) {
        return Err(DecodeError::Family {
            family: event.family,
        });
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::record::tests::event;
    use proptest::prelude::*;

    #[test]
    fn an_event_survives_at_any_alignment_and_with_bytes_behind_it() {
        let event = event(("10.0.0.1", 1), ("10.0.0.2", 2));
        for shift in 0..8 {
            let mut bytes = vec![0xff; shift];
            bytes.extend_from_slice(bytemuck::bytes_of(&event));
            bytes.extend_from_slice(b"payload");
            assert_eq!(decode(&bytes[shift..]), Ok(event));
        }
    }

    #[test]
    fn every_short_record_is_refused() {
        let event = event(("10.0.0.1", 1), ("10.0.0.2", 2));
        let bytes = bytemuck::bytes_of(&event);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Err(DecodeError::Short { len }));
        }
    }

    #[test]
    fn unknown_classes_and_families_are_refused() {
        let base = event(("10.0.0.1", 1), ("10.0.0.2", 2));
        let kind = FlowEvent {
            kind: EventKind(5),
            ..base
        };
        assert_eq!(
            decode(bytemuck::bytes_of(&kind)),
            Err(DecodeError::Kind { kind: 5 })
        );
        let family = FlowEvent { family: 0, ..base };
        assert_eq!(
            decode(bytemuck::bytes_of(&family)),
            Err(DecodeError::Family { family: 0 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(event) = decode(&bytes) {
                prop_assert_eq!(bytemuck::bytes_of(&event), &bytes[..size_of::<FlowEvent>()]);
            }
        }
    }
}
