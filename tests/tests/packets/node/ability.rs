//! What a kernel's `BPF_PROG_TEST_RUN` can do, and tests that leave something out where it cannot.

use super::Node;
use crate::network::{Addresses, families};

/// What a test needs of the kernel beyond running a program.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// XDP on an interface where a neighbour can be unknown.
    NeighboursOfXdp,
    /// XDP on an interface that IPv6 routes lead to.
    Ipv6RoutesOfXdp,
    /// A buffer's ingress interface.
    Ingress,
}

impl Node {
    /// True if tests that need this may run; says why if not.
    pub fn can(&self, need: Need) -> bool {
        let (can, reason) = self.ability(need);
        if !can {
            println!("SKIPPED: {reason}");
        }
        can
    }

    fn ability(&self, need: Need) -> (bool, &'static str) {
        match need {
            Need::NeighboursOfXdp => (
                self.names_xdp_interface,
                "this kernel runs XDP programs on the loopback interface only, where every \
                 neighbour is known",
            ),
            Need::Ipv6RoutesOfXdp => (
                self.names_xdp_interface,
                "this kernel runs XDP programs on the loopback interface only, which no IPv6 \
                 route leads to",
            ),
            Need::Ingress => (
                self.names_ingress,
                "this kernel cannot be told by which interface a buffer came in",
            ),
        }
    }

    /// The families in which the uplink leads anywhere: a test that runs for one has run.
    pub fn families(&self) -> Vec<Addresses> {
        let [v4, v6] = families();
        match self.ability(Need::Ipv6RoutesOfXdp) {
            (true, _) => vec![v4, v6],
            (false, reason) => {
                println!("IPv4 only: {reason}");
                vec![v4]
            }
        }
    }
}
