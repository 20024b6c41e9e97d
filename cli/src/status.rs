//! `weir status`: one screen that says whether it works, and if not, why.

use std::io::{self, Write};

use weir_proto::admin::{
    Counter, Datapath, EncryptionSummary, Flows, Interface, InterfaceRole, MapLevel, Problem,
    Severity, Source, StatusRequest, StatusResponse, XdpMode,
};

use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::encrypt::backend;
use crate::endpoint::tc_mode;
use crate::failure::Failure;
use crate::json;
use crate::output::{Columns, Hue, Paint};

pub(crate) async fn run(
    server: &Server,
    args: &OutputArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client.status(StatusRequest {}).await?.into_inner();
    match args.output {
        Form::Json => json::write_line("weir.admin.v1.StatusResponse", &answer, true, out)?,
        Form::Text => Screen { paint, out }.show(&answer)?,
    }
    verdict(&answer)
}

/// Whether all is well, for the exit code.
fn verdict(status: &StatusResponse) -> Result<(), Failure> {
    let refused = status
        .problems
        .iter()
        .filter(|problem| problem.severity() != Severity::Warning)
        .count();
    if !status.waiting_for.is_empty() {
        let waits = status.waiting_for.join(", ");
        return Err(Failure::Starting(format!("the agent has yet to {waits}")));
    }
    let text = match (status.failures.len(), refused) {
        (0, 0) => return Ok(()),
        (failures, 0) => format!("{failures} failures"),
        (0, refused) => format!("{refused} errors in the input"),
        (failures, refused) => format!("{failures} failures, {refused} errors in the input"),
    };
    Err(Failure::Degraded(format!("not all is well: {text}")))
}

/// Writes the sections one under the other.
struct Screen<'a> {
    paint: Paint,
    out: &'a mut (dyn Write + Send),
}

impl Screen<'_> {
    fn show(&mut self, status: &StatusResponse) -> io::Result<()> {
        let state = match verdict(status) {
            Ok(()) => self.paint.paint(Hue::Green, "ready"),
            Err(Failure::Starting(_)) => self.paint.paint(
                Hue::Yellow,
                &format!("starting (has yet to {})", status.waiting_for.join(", ")),
            ),
            Err(_) => self.paint.paint(Hue::Red, "degraded"),
        };
        let uptime = status.uptime.map_or(0, |uptime| uptime.seconds);
        self.line(
            "Agent",
            &format!(
                "weir {} on {}, {state}, up {}",
                status.version,
                status.node_name,
                span(uptime)
            ),
        )?;
        self.source(&status.source.clone().unwrap_or_default())?;
        self.datapath(&status.datapath.clone().unwrap_or_default())?;
        self.encryption(&status.encryption.clone().unwrap_or_default())?;
        self.flows(&status.flows.clone().unwrap_or_default())?;
        self.maps(&status.maps)?;
        self.counters(&status.counters)?;
        self.failures(&status.failures)?;
        self.problems(&status.problems)
    }

    fn line(&mut self, name: &str, text: &str) -> io::Result<()> {
        let line = format!("{:<12}{text}", format!("{name}:"));
        writeln!(self.out, "{}", line.trim_end())
    }

    fn source(&mut self, source: &Source) -> io::Result<()> {
        let synced = if source.synced {
            "in step".to_owned()
        } else {
            self.paint.paint(Hue::Yellow, "first read not done")
        };
        let Source {
            kind,
            location,
            revision,
            ..
        } = source;
        self.line(
            "Source",
            &format!("{kind} {location}, revision {revision}, {synced}"),
        )
    }

    fn datapath(&mut self, datapath: &Datapath) -> io::Result<()> {
        let maps = if datapath.adopted {
            "adopted from an earlier agent"
        } else {
            "new"
        };
        let Datapath {
            abi_version,
            generation,
            ..
        } = datapath;
        self.line(
            "Data path",
            &format!("layout {abi_version}, generation {generation}, maps {maps}"),
        )?;
        let mut columns = Columns::plain();
        for interface in &datapath.interfaces {
            columns.row(interface_row(interface));
        }
        columns.write("  ", self.out)?;
        match datapath.cgroup_hooks.as_slice() {
            [] => writeln!(self.out, "  sockets are not translated"),
            hooks => {
                writeln!(
                    self.out,
                    "  sockets of {}: {}",
                    datapath.cgroup,
                    hooks.join(" ")
                )
            }
        }
    }

    fn encryption(&mut self, encryption: &EncryptionSummary) -> io::Result<()> {
        let text = if encryption.enabled {
            encryption_text(encryption, self.paint)
        } else {
            "off".to_owned()
        };
        self.line("Encryption", &text)
    }

    fn flows(&mut self, flows: &Flows) -> io::Result<()> {
        let Flows {
            seen,
            stored,
            capacity,
            rate,
            ..
        } = flows;
        let lost: Vec<_> = flows
            .lost
            .iter()
            .filter(|lost| lost.value > 0)
            .map(|lost| format!("{} in {}", lost.value, lost.name))
            .collect();
        let lost = match lost.as_slice() {
            [] => "none lost".to_owned(),
            lost => self
                .paint
                .paint(Hue::Red, &format!("LOST {}", lost.join(", "))),
        };
        let share = percent(*stored, *capacity);
        let text =
            format!("{seen} seen, {rate:.1}/s, {stored} of {capacity} kept ({share}), {lost}");
        self.line("Flows", &text)
    }

    fn maps(&mut self, maps: &[MapLevel]) -> io::Result<()> {
        if maps.is_empty() {
            return Ok(());
        }
        self.line("Maps", "")?;
        let mut columns = Columns::plain();
        for map in maps {
            columns.row([
                map.name.clone(),
                format!("{} of {}", map.entries, map.capacity),
                percent(map.entries, map.capacity),
            ]);
        }
        columns.write("  ", self.out)
    }

    /// Counters that never counted are left out.
    fn counters(&mut self, counters: &[Counter]) -> io::Result<()> {
        let counted: Vec<_> = counters
            .iter()
            .filter(|counter| counter.value > 0)
            .collect();
        if counted.is_empty() {
            return Ok(());
        }
        self.line("Counters", "")?;
        let mut columns = Columns::plain();
        for counter in counted {
            columns.row([counter.name.clone(), counter.value.to_string()]);
        }
        columns.write("  ", self.out)
    }

    fn failures(&mut self, failures: &[String]) -> io::Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        self.line("Failures", &failures.len().to_string())?;
        for failure in failures {
            let mark = self.paint.paint(Hue::Red, "failed");
            writeln!(self.out, "  {mark}: {failure}")?;
        }
        Ok(())
    }

    fn problems(&mut self, problems: &[Problem]) -> io::Result<()> {
        if problems.is_empty() {
            return self.line("Problems", "none");
        }
        self.line("Problems", &problems.len().to_string())?;
        for problem in problems {
            let severity = match problem.severity() {
                Severity::Warning => self.paint.paint(Hue::Yellow, "warning"),
                Severity::Error | Severity::Unspecified => self.paint.paint(Hue::Red, "error"),
            };
            let Problem {
                origin,
                object,
                field,
                message,
                ..
            } = problem;
            let parts = [origin, object, field, message].map(String::as_str);
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            writeln!(self.out, "  {severity}: {}", parts.join(": "))?;
        }
        Ok(())
    }
}

/// `kernel device weir_wg0, 2 of 2 nodes are peers, strict`.
fn encryption_text(encryption: &EncryptionSummary, paint: Paint) -> String {
    let EncryptionSummary {
        device,
        nodes,
        peers,
        unanswered,
        ..
    } = encryption;
    let kind = backend(encryption.backend());
    let mut parts = vec![
        format!("{kind} device {device}"),
        format!("{peers} of {nodes} nodes are peers"),
    ];
    if *unanswered > 0 {
        let text = format!("{unanswered} DO NOT ANSWER");
        parts.push(paint.paint(Hue::Red, &text));
    }
    parts.push(if encryption.strict {
        "strict".to_owned()
    } else {
        paint.paint(Hue::Yellow, "not strict")
    });
    if encryption.rotating {
        parts.push("changing the key".to_owned());
    }
    if !encryption.failure.is_empty() {
        parts.push(paint.paint(Hue::Red, "NOT IN STEP"));
    }
    parts.join(", ")
}

fn interface_row(interface: &Interface) -> [String; 4] {
    let role = match interface.role() {
        InterfaceRole::Uplink => "uplink",
        InterfaceRole::Pod => "pod",
        InterfaceRole::Unspecified => "?",
    };
    let xdp = match interface.xdp_mode() {
        XdpMode::Native => "XDP native",
        XdpMode::Generic => "XDP generic",
        XdpMode::Unspecified => "no XDP",
    };
    let tc = format!("TC {}", tc_mode(interface.tc_mode()));
    [interface.name.clone(), role.into(), xdp.into(), tc]
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".into()
    } else {
        format!("{:.1} %", part as f64 * 100.0 / whole as f64)
    }
}

/// `1d2h`, `2h5m`, `3m12s`, `7s`: the two largest units.
pub(crate) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days}d{}h", hours % 24),
        (_, 1.., _) => format!("{hours}h{}m", minutes % 60),
        (_, _, 1..) => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
