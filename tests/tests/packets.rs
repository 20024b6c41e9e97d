//! Program tests.
use aya::{EbpfLoader, VerifierLogLevel, programs::*};
#[test]
fn loads() {
    let mut e = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(ebpf_object::datapath().unwrap())
        .unwrap();
    let mut bad = 0;
    for (n, p) in e.programs_mut() {
        let r = match p {
            Program::Xdp(p) => p.load(),
            Program::SchedClassifier(p) => p.load(),
            Program::CgroupSockAddr(p) => p.load(),
            _ => panic!(),
        };
        match r {
            Ok(()) => {
                let i = p.info().unwrap();
                println!("{n} ok {:?}", i.verified_instruction_count())
            }
            Err(ProgramError::LoadError {
                io_error,
                verifier_log,
            }) => {
                bad += 1;
                let s = verifier_log.to_string();
                println!(
                    "{n} FAILED {io_error}\n{}",
                    s.lines()
                        .rev()
                        .take(40)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .collect::<Vec<_>>()
                        .join("\n")
                )
            }
            Err(e) => {
                bad += 1;
                println!("{n} {e:?}")
            }
        }
    }
    assert_eq!(bad, 0);
}
