//! Programs built for debugging say what they decide, and the agent's log has it.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebpf_abi::DropReason;
use ebpf_abi::tcp::SYN;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;
use weir_agent::config::LogLevel;
use weir_agent::datapath::program_log::ProgramLog;
use weir_tests::binary::Binary;

use crate::network::families;
use crate::node::{Hook, Node, Verdict, on_node_of, small_config};
use crate::packet::Packet;

/// Lines may take so long on a machine busy with other tests.
const SOON: Duration = Duration::from_secs(20);

/// The programs of the agent that was built with their log lines, or says why there is none.
fn debug_object() -> Option<Vec<u8>> {
    let agent = match Binary::OtherPrograms.path() {
        Ok(agent) => agent,
        Err(missing) => {
            println!("SKIPPED: `cargo xtask test` builds programs with log lines: {missing}");
            return None;
        }
    };
    let agent = fs::read(&agent).unwrap_or_else(|error| panic!("{}: {error}", agent.display()));
    let object = embedded_object(&agent).expect("an agent holds its programs");
    // What follows it in the agent is of no interest to readers of ELF.
    Some(agent[object..].to_vec())
}

/// Where in an executable the object for the kernel begins. It is aligned there.
fn embedded_object(executable: &[u8]) -> Option<usize> {
    const ALIGNMENT: usize = 8;
    const MAGIC: &[u8] = b"\x7fELF";
    /// `EM_BPF` of the kernel's `elf-em.h`, as it stands in the header.
    const MACHINE: [u8; 2] = 247_u16.to_le_bytes();
    const MACHINE_OFFSET: usize = 18;
    let is_object = |at: &usize| {
        let header = &executable[*at..];
        header.starts_with(MAGIC) && header[MACHINE_OFFSET..].starts_with(&MACHINE)
    };
    let mut places = (0..executable.len().saturating_sub(64)).step_by(ALIGNMENT);
    places.find(is_object)
}

/// What a subscriber of the agent's log wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Forwards the programs' lines, as the agent does, until the log holds `awaited`. Returns the log.
fn forward(log: ProgramLog, awaited: &str) -> String {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let wait = async {
                while !written.text().contains(awaited) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                stop.cancel();
            };
            let both = async { tokio::join!(log.run(stop.clone()), wait).0 };
            let end = tokio::time::timeout(SOON, both).await;
            let end = end.unwrap_or_else(|_| panic!("no {awaited:?} in {:?}", written.text()));
            end.expect("lines can be read");
        });
    });
    written.text()
}

/// A connection that is opened, one that is refused, and a fragment.
fn decide(node: &mut Node) {
    for of in families() {
        node.service(1, of.vip, of.local, true);
        node.frontend(of.vip2, 2);
        let opened = node.run(Hook::UplinkIn, &Packet::tcp(of.client, of.vip, SYN));
        assert_eq!(opened.verdict, Verdict::Pass, "{opened}");
        let refused = node.run(Hook::UplinkIn, &Packet::tcp(of.client, of.vip2, SYN));
        assert_eq!(refused.verdict, Verdict::Drop, "{refused}");
    }
}

#[test]
fn programs_built_for_debugging_log_what_they_decide() {
    let Some(object) = debug_object() else { return };
    let [v4, v6] = families();
    let reason = DropReason::NoBackend as u8;
    let dropped = format!(
        "dropped, reason {reason}: {} port 40000 -> {} port 80",
        v6.client.ip(),
        v6.vip2.ip()
    );

    let mut config = small_config();
    config.log.level = LogLevel::Trace;
    on_node_of(&object, &config, |node| {
        decide(node);
        let text = forward(node.take_log(), &dropped);
        for of in [v4, v6] {
            let opened = format!(
                "DEBUG ebpf: connection of {} port 40000 goes to {} port 8080",
                of.client.ip(),
                of.local.ip()
            );
            assert!(text.contains(&opened), "{opened} is not in\n{text}");
        }
        assert!(text.contains(&format!(" WARN ebpf: {dropped}")), "{text}");
    });

    config.log.level = LogLevel::Warn;
    on_node_of(&object, &config, |node| {
        decide(node);
        let text = forward(node.take_log(), &dropped);
        assert!(!text.contains("DEBUG"), "{text}");
    });
}

#[test]
fn ordinary_programs_hold_no_trace_of_a_log() {
    let object = ebpf_object::datapath().expect("built with the programs");
    let holds = |name: &[u8]| object.windows(name.len()).any(|window| window == name);
    assert!(holds(b"CONNTRACK4"), "names of maps are to be found");
    assert!(!holds(b"AYA_LOG"));
}
