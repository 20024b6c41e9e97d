//! The process of the device: `weir-agent wireguard-device`, started by the agent and nobody else.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use super::uapi::Listener;
use super::{Tunnel, receive, send, timers, tun};
use crate::encryption::{FirewallMark, InterfaceName, Port};

pub use super::uapi::path_of as control_socket;

/// Most queues, and threads for each direction: beyond it they wait for each other.
const MAX_QUEUES: usize = 4;

/// The line that tells the agent that the device is there.
pub const READY: &str = "ready";

/// The line that tells the agent that someone else has the port.
pub const PORT_TAKEN: &str = "port taken";

/// What the device is to be.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// Name of the device
    pub name: InterfaceName,

    /// Port for encrypted packets
    #[arg(long, value_parser = parse_port)]
    pub port: Port,

    /// Mark of encrypted packets
    #[arg(long, value_parser = parse_mark)]
    pub mark: FirewallMark,
}

fn parse_port(text: &str) -> Result<Port, String> {
    let number: u16 = text.parse().map_err(|_| "not a number".to_owned())?;
    Port::try_from(number).map_err(|error| error.to_string())
}

fn parse_mark(text: &str) -> Result<FirewallMark, String> {
    let number: u32 = text.parse().map_err(|_| "not a number".to_owned())?;
    FirewallMark::try_from(number).map_err(|error| error.to_string())
}

impl ServeArguments {
    /// The words of the command line, as the agent writes them.
    pub fn to_words(&self) -> [String; 3] {
        [
            self.name.to_string(),
            format!("--port={}", self.port),
            format!("--mark={}", self.mark.get()),
        ]
    }

    /// Serves the device until it is taken away. Tells the starter on standard output what became
    /// of it, in one line, and lets go of it.
    pub fn run(self) -> anyhow::Result<()> {
        // A session of its own: what stops the agent's terminal or group does not stop packets.
        // It fails only if the process leads one already.
        let _leads_already = nix::unistd::setsid();
        let started = Device::start(&self);
        tell(&started)?;
        started?.serve();
        Ok(())
    }
}

fn tell(started: &io::Result<Device>) -> io::Result<()> {
    let line = match started {
        Ok(_) => READY.to_owned(),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => PORT_TAKEN.to_owned(),
        Err(error) => error.to_string(),
    };
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()?;
    // The agent waits for the end of the line only, but nobody shall keep its pipe open for life.
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nowhere.as_fd())?;
    Ok(())
}

/// The device and its threads.
pub struct Device {
    listener: Arc<Listener>,
    tunnel: Arc<Tunnel>,
    ended: mpsc::Receiver<&'static str>,
}

impl Device {
    /// Makes the device; it is down, and has no key and no peers.
    ///
    /// # Errors
    /// `EBUSY` if an interface has the name, `EADDRINUSE` if someone else has the port.
    pub fn start(arguments: &ServeArguments) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let tunnel = Tunnel::new(tun::create(&arguments.name, count.min(MAX_QUEUES))?);
        let sockets = {
            let mut table = tunnel.table_mut();
            table.set_mark(Some(arguments.mark))?;
            table.set_port(arguments.port, tunnel.queues.len())?
        };
        for (at, sockets) in sockets
            .iter()
            .flat_map(|all| (0..all.count()).map(move |at| (at, all)))
        {
            let (tunnel, sockets) = (Arc::clone(&tunnel), Arc::clone(sockets));
            thread::spawn(move || receive::run(&tunnel, &sockets, at));
        }
        let (end, ended) = mpsc::channel();
        for queue in 0..tunnel.queues.len() {
            let (tunnel, end) = (Arc::clone(&tunnel), end.clone());
            thread::spawn(move || {
                send::run(&tunnel, queue);
                end.send("the device was deleted")
            });
        }
        // Last: whoever can connect finds the device whole.
        let listener = Arc::new(Listener::bind(&arguments.name)?);
        let (serving, served) = (Arc::clone(&listener), Arc::clone(&tunnel));
        thread::spawn(move || {
            serving.run(&served);
            end.send("the control socket failed")
        });
        Ok(Self {
            listener,
            tunnel,
            ended,
        })
    }

    /// Serves it until the device or its socket is taken away.
    pub fn serve(self) {
        self.wait();
        self.listener.remove();
    }

    /// Looks at the clock meanwhile.
    fn wait(&self) {
        while self.listener.is_reachable() {
            match self.ended.recv_timeout(timers::TICK) {
                Err(mpsc::RecvTimeoutError::Timeout) => timers::tick(&self.tunnel),
                _ => return,
            }
        }
    }
}

/// Where the socket is, for messages.
pub fn control_folder() -> PathBuf {
    PathBuf::from(super::uapi::FOLDER)
}
