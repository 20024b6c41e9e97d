//! Two nodes with a wire between them, and a device on each that encrypts.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_agent::encryption::key::{PrivateKey, PublicKey};

use super::load::{Load, Measured};
use crate::binary::Binary;
use crate::run::{self, Record};
use crate::{Place, namespace, wait};

/// Environment variable with the path of boringtun's program, see `cargo xtask bench`.
pub const BORINGTUN: &str = "WEIR_BORINGTUN";

const PORT: u16 = 51_871;
const MTU: u32 = 1_420;
const DEADLINE: Duration = Duration::from_secs(10);

/// Who encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Weir's device process.
    Weir,
    /// `boringtun-cli`.
    Boringtun,
}

impl Program {
    fn label(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Boringtun => "bt",
        }
    }
}

/// Both nodes; removed when dropped.
#[derive(Debug)]
pub struct Pair {
    record: Record,
    ends: [End; 2],
}

/// A node, its pod's address, and the process of its device.
#[derive(Debug)]
struct End {
    place: Place,
    pod: Ipv4Addr,
    device: Child,
}

impl Pair {
    /// Makes the nodes and starts the devices.
    ///
    /// # Errors
    ///
    /// When the machine does not allow it or a program does not start; nothing is left then.
    pub fn start(program: Program) -> Result<Self> {
        let _changing = run::changing();
        let record = run::start(&format!("bench-{}", program.label()), &["one", "two"])?;
        match Self::build(program, &record) {
            Ok(ends) => Ok(Self { record, ends }),
            Err(error) => {
                // The first error says more than what the removal might add.
                let _ = record.remove();
                Err(error)
            }
        }
    }

    fn build(program: Program, record: &Record) -> Result<[End; 2]> {
        let places = ["one", "two"].map(|name| place(record, name));
        let [one, two] = places;
        let (one, two) = (one?, two?);
        let other = record.namespace_of("two");
        one.output(
            "ip",
            &[
                "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &other,
            ],
        )?;
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let start = |number: usize, place: Place| {
            let peer = 1 - number;
            End::start(program, place, number, &keys[number], keys[peer].public())
        };
        Ok([start(0, one)?, start(1, two)?])
    }

    /// Sends a load for some time.
    ///
    /// # Errors
    ///
    /// When nothing arrives.
    pub fn measure(&self, load: Load, length: Duration) -> Result<Measured> {
        let before = self.cpu_seconds()?;
        let [one, two] = &self.ends;
        let sent = load.send((&one.place, one.pod), (&two.place, two.pod), length)?;
        Ok(Measured {
            cpu_seconds: self.cpu_seconds()? - before,
            ..sent
        })
    }

    /// Time on a processor that both devices have used, in user and kernel mode.
    fn cpu_seconds(&self) -> Result<f64> {
        self.ends
            .iter()
            .map(|end| cpu_seconds(end.device.id()))
            .sum()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for end in &mut self.ends {
            // Gone already is as good.
            let _ = end.device.kill();
            let _ = end.device.wait();
        }
        if let Err(error) = self.record.remove() {
            eprintln!("{error:#}");
        }
    }
}

fn place(record: &Record, name: &str) -> Result<Place> {
    let network = record.namespace_of(name);
    namespace::create(&network, || Ok(()))?;
    let cgroup = record.cgroup.join(name);
    std::fs::create_dir(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
    Ok(Place::new(name, namespace::path(&network), None, cgroup))
}

impl End {
    fn start(
        program: Program,
        place: Place,
        number: usize,
        key: &PrivateKey,
        peer: PublicKey,
    ) -> Result<Self> {
        let (own, other) = (number as u8 + 1, 2 - number as u8);
        let pod = Ipv4Addr::new(10, own, 0, 1);
        // Sockets of all devices lie in one folder.
        let name = format!("{}{own}-{}", program.label(), std::process::id());
        for words in [
            format!("address add {pod}/32 dev lo"),
            "link set lo up".to_owned(),
            format!("address add 192.0.2.{own}/24 dev wire"),
            "link set wire up".to_owned(),
        ] {
            place.output("ip", &words.split(' ').collect::<Vec<_>>())?;
        }
        let device = spawn(program, &place, &name)?;
        let end = Self { place, pod, device };
        configure(&name, key, peer, other)?;
        for words in [
            format!("link set {name} mtu {MTU} up"),
            format!("route add 10.{other}.0.0/16 dev {name} src {pod}"),
        ] {
            end.place
                .output("ip", &words.split(' ').collect::<Vec<_>>())?;
        }
        Ok(end)
    }
}

fn spawn(program: Program, place: &Place, name: &str) -> Result<Child> {
    let mut command = match program {
        Program::Weir => {
            let mut command = place.command(Binary::Agent.path()?)?;
            command.args([
                "wireguard-device",
                name,
                "--mark=1",
                &format!("--port={PORT}"),
            ]);
            command
        }
        Program::Boringtun => {
            let path = std::env::var_os(BORINGTUN)
                .with_context(|| format!("{BORINGTUN} names no program; use cargo xtask bench"))?;
            // In a session of its own, as Weir's: the scheduler shares between sessions first.
            let mut command = place.command("setsid")?;
            command.arg(path);
            // To drop privileges it wants a user who ran sudo.
            command.args(["--foreground", "--disable-drop-privileges", name]);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn().context("start the device")?;
    let socket = socket(name);
    wait::until(&format!("{} to appear", socket.display()), DEADLINE, || {
        UnixStream::connect(&socket).map(drop).context("connect")
    })?;
    Ok(child)
}

fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{name}.sock"))
}

/// Tells a device its key, its port and its one peer, as `wg` does.
fn configure(name: &str, key: &PrivateKey, peer: PublicKey, other: u8) -> Result<()> {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let request = format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint=192.0.2.{other}:{PORT}\n\
         replace_allowed_ips=true\nallowed_ip=10.{other}.0.0/16\n\n",
        hex(key.expose()),
        hex(peer.as_bytes()),
    );
    let mut stream = UnixStream::connect(socket(name)).context("connect to the device")?;
    stream
        .write_all(request.as_bytes())
        .context("configure the device")?;
    stream
        .shutdown(Shutdown::Write)
        .context("end the request")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("read the device's answer")?;
    ensure!(
        answer.trim() == "errno=0",
        "{name} refused its configuration: {answer:?}"
    );
    Ok(())
}

/// Time on a processor that a process has used, in user and kernel mode.
///
/// # Errors
///
/// When it does not run.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The 14th and 15th word, counted behind the name, which may hold anything.
    let (_, words) = stat.rsplit_once(')').context("a name in the stat file")?;
    let ticks: Vec<u64> = words
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse().ok())
        .collect();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    let per_second = per_second.context("the kernel counts in ticks")? as f64;
    Ok(ticks.iter().sum::<u64>() as f64 / per_second)
}
