//! Maps and programs into the kernel, adopting the maps that an earlier agent pinned.

use std::path::PathBuf;

use aya::maps::{MapError, MapInfo};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ebpf_object::MissingObject;

use super::carry_over::{CarryOver, CarryOverError};
use super::maps::Maps;
use super::pins::{Pins, PinsError};
use super::program_log::{self, ProgramLog};
use crate::config::Config;

/// Maps that are pinned, in the order of their definition.
///
/// The per-CPU scratch maps are not among them: nothing in them outlives a packet.
pub const PINNED_MAPS: [&str; 19] = [
    "FRONTENDS4",
    "FRONTENDS6",
    "FRONTEND_BITS",
    "BACKENDS4",
    "BACKENDS6",
    "MAGLEV",
    "CONNTRACK4",
    "CONNTRACK6",
    "FLOWS4",
    "FLOWS6",
    "SOCKETS4",
    "SOCKETS6",
    "IPCACHE4",
    "IPCACHE6",
    "TRAFFIC",
    "EVENTS",
    "COUNTERS",
    "EVENTS_LOST_TOLD",
    "CONFIG",
];

/// Why the data plane cannot be loaded. Nothing is attached then that was not before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This build carries no programs.
    #[error(transparent)]
    NoObject(#[from] MissingObject),
    /// The folder for pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A pinned map is not what the programs expect.
    #[error(
        "map {path} is pinned with {what} {found} where this agent needs {expected}; \
         run `weir-agent uninstall` to start afresh"
    )]
    Incompatible {
        /// Where it is pinned.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// As pinned.
        found: u32,
        /// As the programs have it.
        expected: u32,
    },
    /// What another version left cannot be taken over.
    #[error("cannot carry over what another version of the agent left; it goes on as it is")]
    CarryOver(#[from] CarryOverError),
    /// The kernel refused the maps or the object as a whole.
    #[error("cannot load the eBPF object; `weir-agent probe` tells what this kernel lacks")]
    Object(#[from] Box<EbpfError>),
    /// The kernel refused a program.
    #[error("cannot load program {name}; `weir-agent probe` tells what this kernel lacks")]
    Program {
        /// Name of the program.
        name: String,
        /// The verifier's answer.
        source: Box<ProgramError>,
    },
    /// A map is missing from the object or has another type.
    #[error("cannot use map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// Why.
        source: Box<MapError>,
    },
}

/// The loaded data plane.
pub struct Loaded {
    /// Programs, loaded but not attached.
    pub programs: Ebpf,
    /// Typed handles on the maps.
    pub maps: Maps,
    /// True if maps of an earlier agent were adopted.
    pub adopted: bool,
    /// What is left to carry over from another version.
    pub carry_over: Option<CarryOver>,
    /// What the programs say, if they were built for debugging.
    pub log: Option<ProgramLog>,
}

/// Loads maps and programs. With pins, the maps found there are adopted; without (for tests), all
/// maps are new and end with the process.
pub fn load(config: &Config, pins: Option<&Pins>) -> Result<Loaded, LoadError> {
    load_object(ebpf_object::datapath()?, config, pins)
}

/// Likewise from an object that is not the embedded one.
pub fn load_object(
    object: &[u8],
    config: &Config,
    pins: Option<&Pins>,
) -> Result<Loaded, LoadError> {
    let mut adopted = false;
    let mut carry_over = None;
    if let Some(pins) = pins {
        pins.create()?;
        carry_over = CarryOver::find(pins)?;
        if let Some(carry_over) = &carry_over {
            carry_over.share_maps(pins)?;
        }
        adopted = check_pinned(config, pins)?;
    }
    let log_level = program_log::level_number(config.log.level);
    let mut loader = EbpfLoader::new();
    // Only programs that log have it.
    loader.override_global(aya_log::LEVEL, &log_level, false);
    for (map, capacity) in capacities(config) {
        loader.map_max_entries(map, capacity);
    }
    for map in PINNED_MAPS {
        if let Some(pins) = pins {
            loader.map_pin_path(map, pins.map(map));
        }
    }
    let mut programs = loader.load(object).map_err(Box::new)?;
    for (name, program) in programs.programs_mut() {
        load_program(program).map_err(|source| LoadError::Program {
            name: name.into(),
            source: Box::new(source),
        })?;
    }
    if let (Some(pins), Some(carry_over)) = (pins, &mut carry_over) {
        carry_over.fill_maps(pins)?;
    }
    let maps = Maps::take(&mut programs, config)?;
    let log = ProgramLog::take(&mut programs);
    Ok(Loaded {
        programs,
        maps,
        adopted,
        carry_over,
        log,
    })
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        // The object holds no others; the test that loads it says so.
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Capacities that the configuration sets. Connections take an entry for each direction.
fn capacities(config: &Config) -> [(&'static str, u32); 3] {
    [
        ("CONNTRACK4", config.load_balancer.connections_v4.get() * 2),
        ("CONNTRACK6", config.load_balancer.connections_v6.get() * 2),
        ("EVENTS", config.flows.ring_buffer_bytes.bytes() as u32),
    ]
}

/// Checks what is pinned before it is adopted; aya would take whatever lies at the path.
///
/// A capacity that was configured differently is kept: connections are worth more than the new
/// size, which takes effect after a reboot or `weir-agent uninstall`.
fn check_pinned(config: &Config, pins: &Pins) -> Result<bool, LoadError> {
    let mut adopted = false;
    for name in PINNED_MAPS {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|source| LoadError::Map {
            name,
            source: Box::new(source),
        })?;
        let (key_size, value_size) = Maps::layout(name);
        for (what, found, expected) in [
            ("key size", info.key_size(), key_size),
            ("value size", info.value_size(), value_size),
        ] {
            if found != expected {
                return Err(LoadError::Incompatible {
                    path,
                    what,
                    found,
                    expected,
                });
            }
        }
        let wanted = capacities(config).into_iter().find(|(map, _)| *map == name);
        if let Some((_, wanted)) = wanted.filter(|(_, wanted)| *wanted != info.max_entries()) {
            tracing::warn!(
                map = name,
                pinned = info.max_entries(),
                configured = wanted,
                "keeping the pinned map's capacity; the configured one takes effect after a reboot \
                 or `weir-agent uninstall`",
            );
        }
        adopted = true;
    }
    Ok(adopted)
}
