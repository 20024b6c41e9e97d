//! Packets of any link, as they are on the wire, with a judgement on their checksums.
//!
//! Bounded in count and in bytes per packet; what did not fit is counted. A capture sees packets
//! of both directions. Frames can be sent raw on a link too, for what no socket would send.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{Place, wait};

pub mod between;
pub mod checksum;
pub mod packet;
mod socket;

pub use packet::Summary;

/// Most packets that a capture keeps.
const MOST_PACKETS: usize = 100_000;
/// How often the capturing thread looks whether it shall end.
const PATIENCE: Duration = Duration::from_millis(20);

/// A captured packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it was read.
    pub time: SystemTime,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// The kernel still owes the checksum, or computed none as it never left memory.
    pub checksum_unfinished: bool,
}

impl Packet {
    /// Addresses, protocol and ports, if it is IPv4 or IPv6.
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.bytes)
    }
}

/// A capture on its way. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    captured: Arc<Mutex<Captured>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What a capture saw.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// Packets in order.
    pub packets: Vec<Packet>,
    /// Packets that did not fit.
    pub left_out: u64,
}

impl Place {
    /// Starts to capture on `interface`; packets sent after the return are seen.
    ///
    /// # Errors
    ///
    /// When there is no such interface here.
    pub fn capture(&self, interface: &str) -> Result<Capture> {
        let socket = self.run(|| socket::open(interface))??;
        socket::set_patience(&socket, PATIENCE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let captured = Arc::new(Mutex::new(Captured::default()));
        let (told, into) = (Arc::clone(&stop), Arc::clone(&captured));
        let thread = thread::Builder::new()
            .name(format!("capture {}", self.name()))
            .spawn(move || collect(&socket, &told, &into))
            .context("start a capturing thread")?;
        Ok(Capture {
            stop,
            captured,
            thread: Some(thread),
        })
    }

    /// Sends `frames` out of `interface` just as they are.
    ///
    /// # Errors
    ///
    /// When there is no such interface here or the kernel refuses a frame.
    pub fn send_frames(&self, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
        let socket = self.run(|| socket::open(interface))??;
        frames
            .iter()
            .try_for_each(|frame| socket::send(&socket, frame))
    }

    /// Hardware address of `interface`.
    ///
    /// # Errors
    ///
    /// When there is no such interface here.
    pub fn hardware_address(&self, interface: &str) -> Result<[u8; 6]> {
        self.run(|| socket::hardware_address(interface))?
    }
}

impl Capture {
    /// Waits until `enough` holds for what was captured so far, and goes on capturing.
    ///
    /// # Errors
    ///
    /// When it does not hold within `deadline`.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        enough: impl Fn(&Captured) -> bool,
    ) -> Result<()> {
        wait::until_true(what, deadline, || enough(&lock(&self.captured)))
    }

    /// Ends the capture.
    ///
    /// # Errors
    ///
    /// When reading failed on the way.
    pub fn finish(mut self) -> Result<Captured> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("taken here and in Drop only");
        thread
            .join()
            .map_err(|_| anyhow!("the capturing thread panicked"))??;
        Ok(std::mem::take(&mut *lock(&self.captured)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Nobody asked for what it saw.
            let _ = thread.join();
        }
    }
}

fn lock(captured: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    // A panic under the lock leaves packets that were captured: a good state.
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(socket: &OwnedFd, stop: &AtomicBool, captured: &Mutex<Captured>) -> Result<()> {
    loop {
        // Looked at before reading, so that packets sent before the stop are read after it.
        let last = stop.load(Ordering::SeqCst);
        for _ in 0..MOST_PACKETS {
            let Some(packet) = socket::receive(socket)? else {
                break;
            };
            lock(captured).add(packet);
        }
        if last {
            return Ok(());
        }
    }
}

impl Captured {
    fn add(&mut self, packet: Packet) {
        if self.packets.len() < MOST_PACKETS {
            self.packets.push(packet);
        } else {
            self.left_out += 1;
        }
    }

    /// Packets that `wanted` says are of interest.
    pub fn matching(&self, wanted: impl Fn(&Summary) -> bool) -> Vec<&Packet> {
        self.packets
            .iter()
            .filter(|packet| packet.summary().is_some_and(|s| wanted(&s)))
            .collect()
    }

    /// Checks every TCP, UDP and IPv4 header checksum that is finished and returns how many.
    ///
    /// # Errors
    ///
    /// When one is wrong; the text shows the packet.
    pub fn check_checksums(&self) -> Result<usize> {
        let mut checked = 0;
        for packet in self
            .packets
            .iter()
            .filter(|packet| !packet.checksum_unfinished)
        {
            checked += usize::from(checksum::check(&packet.bytes)?);
        }
        Ok(checked)
    }

    /// Writes the packets as a pcap file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or something was left out.
    pub fn write_pcap(&self, path: &Path) -> Result<()> {
        ensure!(self.left_out == 0, "{} packets did not fit", self.left_out);
        // Magic, version 2.4, no time zone, no accuracy, snap length, Ethernet.
        let mut file = Vec::new();
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x0004_0000, 1];
        for word in header {
            file.extend_from_slice(&word.to_ne_bytes());
        }
        for packet in &self.packets {
            let since = packet.time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let length = packet.bytes.len() as u32;
            let head = [
                since.as_secs() as u32,
                since.subsec_micros(),
                length,
                length,
            ];
            for word in head {
                file.extend_from_slice(&word.to_ne_bytes());
            }
            file.extend_from_slice(&packet.bytes);
        }
        fs::write(path, file).with_context(|| format!("write {}", path.display()))
    }
}
