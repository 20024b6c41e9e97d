//! One packet through one hook of a node, and what may be said of its fate.

use std::fmt;
use std::io;

use super::{Node, fd};
use crate::packet::{Packet, assert_checksums, dump};
use crate::test_run::{self, Answer, Interfaces};

/// What becomes of a packet, whatever the hook's numbers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    /// Sent back out of the interface it came in by (XDP).
    Transmit,
    /// Handed to another interface (TC).
    Redirect,
}

/// Where a packet meets the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    UplinkIn,
    /// Out of the uplink, made by the node.
    UplinkOut,
    /// Out of the uplink, come from a pod.
    UplinkOutForwarded,
    PodFrom,
    PodTo,
    /// Out of the device that encrypts, decrypted: see [`Packet::bare_bytes`].
    DeviceIn,
    /// Into it.
    DeviceOut,
}

impl Hook {
    /// Those that see Ethernet frames.
    pub const ALL: [Self; 6] = [
        Self::Xdp,
        Self::UplinkIn,
        Self::UplinkOut,
        Self::UplinkOutForwarded,
        Self::PodFrom,
        Self::PodTo,
    ];
}

/// A packet's fate.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
}

impl Node {
    /// Has a hook's program decide on a packet.
    pub fn run(&mut self, hook: Hook, packet: &Packet) -> Outcome {
        self.run_bytes(hook, &packet.bytes())
    }

    /// Likewise for bytes that need not be a packet.
    pub fn run_bytes(&mut self, hook: Hook, frame: &[u8]) -> Outcome {
        let answer = self.answer(hook, frame, false).unwrap_or_else(|error| {
            panic!("the kernel does not run {hook:?}: {error}\n{}", dump(frame))
        });
        Outcome {
            verdict: verdict(hook, answer.code),
            frame: answer.frame,
        }
    }

    /// Likewise for a buffer with a mark.
    pub fn run_marked(&mut self, hook: Hook, packet: &Packet, mark: u32) -> Outcome {
        self.run_as(hook, packet, |interfaces| interfaces.mark = mark)
    }

    /// Likewise for a buffer that stands for packets with so much payload.
    pub fn run_segments(&mut self, hook: Hook, packet: &Packet, segment: u32) -> Outcome {
        self.run_as(hook, packet, |interfaces| interfaces.segment = segment)
    }

    fn run_as(
        &mut self,
        hook: Hook,
        packet: &Packet,
        change: impl FnOnce(&mut Interfaces),
    ) -> Outcome {
        let (name, mut interfaces) = self.place(hook);
        change(&mut interfaces);
        let program = fd(&self.loaded.programs, name);
        let answer = test_run::tc(program, &packet.bytes(), interfaces, false);
        let answer = answer.expect("the kernel takes such a context");
        Outcome {
            verdict: verdict(hook, answer.code),
            frame: answer.frame,
        }
    }

    /// A hook's program, and what it is told of the interfaces.
    fn place(&self, hook: Hook) -> (&'static str, Interfaces) {
        let uplink = self.wire.ifindex;
        let on = |ifindex, ingress| Interfaces {
            ifindex,
            ingress,
            mark: 0,
            segment: 0,
        };
        let (name, mut interfaces) = match hook {
            Hook::Xdp => ("xdp_uplink", on(uplink, uplink)),
            Hook::UplinkIn => ("tc_uplink_in", on(uplink, uplink)),
            Hook::UplinkOut => ("tc_uplink_out", on(uplink, 0)),
            Hook::UplinkOutForwarded => ("tc_uplink_out", on(uplink, self.pods)),
            Hook::PodFrom => ("tc_pod_from", on(self.pods, self.pods)),
            Hook::PodTo => ("tc_pod_to", on(self.pods, uplink)),
            // Any interface will do: the programs know of it by being attached there.
            Hook::DeviceIn => ("tc_wireguard_in", on(self.pods, self.pods)),
            Hook::DeviceOut => ("tc_wireguard_out", on(self.pods, 0)),
        };
        if !self.names_ingress {
            interfaces.ingress = 0;
        }
        (name, interfaces)
    }

    fn answer(&self, hook: Hook, frame: &[u8], summed: bool) -> io::Result<Answer> {
        let (name, interfaces) = self.place(hook);
        let program = fd(&self.loaded.programs, name);
        if hook == Hook::Xdp {
            let named = self.names_xdp_interface.then_some(interfaces.ifindex);
            return test_run::xdp(program, frame, named);
        }
        test_run::tc(program, frame, interfaces, summed)
    }

    /// Likewise with a buffer that carries a sum over the packet (`CHECKSUM_COMPLETE`), which the
    /// kernel verifies afterwards. An error is the kernel's.
    pub fn run_summed(&self, hook: Hook, packet: &Packet) -> io::Result<Outcome> {
        self.answer(hook, &packet.bytes(), true)
            .map(|answer| Outcome {
                verdict: verdict(hook, answer.code),
                frame: answer.frame,
            })
    }

    /// Asserts what becomes of a packet, to the byte: the verdict and the frame as it leaves.
    #[track_caller]
    pub fn expect(&mut self, hook: Hook, packet: &Packet, verdict: Verdict, leaves: &Packet) {
        let outcome = self.run(hook, packet);
        outcome.assert(verdict, &leaves.bytes());
        if leaves.header_checksum_error == 0 && leaves.checksum_error == 0 {
            assert_checksums(&outcome.frame);
        }
    }

    /// Asserts that a packet passes as it is.
    #[track_caller]
    pub fn expect_untouched(&mut self, hook: Hook, packet: &Packet) {
        self.run(hook, packet)
            .assert(Verdict::Pass, &packet.bytes());
    }
}

fn verdict(hook: Hook, code: u32) -> Verdict {
    match (hook == Hook::Xdp, code) {
        (true, 2) | (false, 0) => Verdict::Pass,
        (true, 1) | (false, 2) => Verdict::Drop,
        (true, 3) => Verdict::Transmit,
        (false, 7) => Verdict::Redirect,
        (_, code) => panic!("{hook:?} answered {code}"),
    }
}

impl Outcome {
    #[track_caller]
    pub fn assert(&self, verdict: Verdict, frame: &[u8]) {
        assert!(
            self.verdict == verdict && self.frame == frame,
            "expected {verdict:?} of\n{}got {self}",
            dump(frame)
        );
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of\n{}", self.verdict, dump(&self.frame))
    }
}
