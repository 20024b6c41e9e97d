//! The programs as the kernel sees them.

use aya::programs::Program;

use crate::node::{Need, on_node};

/// What the verifier may look at per program before it gives up (`BPF_COMPLEXITY_LIMIT_INSNS`,
/// from 5.2 on) is a million instructions; kernels differ in how well they prune. 6.1 looks at two and a
/// half times as many as 6.18.
const INSTRUCTIONS_MAX: u32 = 400_000;

#[test]
fn every_program_loads_with_room_to_the_verifiers_limits() {
    on_node(|node| {
        let mut count = 0;
        let mut large = Vec::new();
        for (name, program) in node.programs() {
            let known = matches!(
                program,
                Program::Xdp(_) | Program::SchedClassifier(_) | Program::CgroupSockAddr(_)
            );
            assert!(known, "{name} is of a kind that the agent does not load");
            // Kernels before 5.16 do not tell.
            let verified = program.info().unwrap().verified_instruction_count();
            println!("{name}: {verified:?} instructions verified");
            if verified.is_some_and(|verified| verified > INSTRUCTIONS_MAX) {
                large.push(name);
            }
            count += 1;
        }
        assert!(large.is_empty(), "the verifier looks too long at {large:?}");
        assert_eq!(count, 15);
    });
}

/// Stands for the halves of other tests that it says are left out.
#[test]
fn both_families_are_tested() {
    on_node(|node| {
        if node.can(Need::Ipv6RoutesOfXdp) {
            assert_eq!(node.families().len(), 2);
        }
    });
}
