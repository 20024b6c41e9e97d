//! One line per flow.

use std::io::{self, Write};

use weir_proto::flow::{Flow, Verdict};
use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::get_flows_response::ResponseTypes;

use super::event::{self, Host};
use super::{Hue, Style};

/// Writes each answer on a line of its own, as it comes:
/// `TIME[ [NODE]]: SOURCE (ID) ARROW DESTINATION (ID) TYPE VERDICT (SUMMARY)`.
///
/// The side that opened the connection stands left, whoever sent the packet; the arrow points the
/// packet's way.
pub(crate) struct Compact(Style);

impl Compact {
    pub(crate) fn new(style: Style) -> Self {
        Self(style)
    }

    pub(crate) fn write(&self, answer: &GetFlowsResponse, out: &mut dyn Write) -> io::Result<()> {
        match &answer.response_types {
            Some(ResponseTypes::Flow(flow)) => writeln!(out, "{}", self.flow(flow)),
            Some(ResponseTypes::LostEvents(lost)) => {
                let time = event::time(answer.time.as_ref());
                let node = self.node(&answer.node_name);
                let text = self.0.paint.paint(Hue::Red, &event::lost(lost));
                writeln!(out, "{time}{node} {text}")
            }
            // A node does not tell of other nodes.
            Some(ResponseTypes::NodeStatus(_)) | None => Ok(()),
        }
    }

    fn flow(&self, flow: &Flow) -> String {
        let paint = self.0.paint;
        let (source, destination) = event::hosts(flow, self.0.numeric);
        let source = self.end(&source, &event::identity(flow.source.as_ref()));
        let destination = self.end(&destination, &event::identity(flow.destination.as_ref()));
        let (left, arrow, right) = match flow.is_reply {
            None => (source, "<>", destination),
            Some(false) => (source, "->", destination),
            Some(true) => (destination, "<-", source),
        };
        let hue = match flow.verdict() {
            Verdict::Forwarded | Verdict::Redirected => Hue::Green,
            Verdict::Dropped | Verdict::Error => Hue::Red,
            _ => Hue::Yellow,
        };
        format!(
            "{}{}: {left} {arrow} {right} {} {} ({})",
            event::time(flow.time.as_ref()),
            self.node(&flow.node_name),
            event::kind(flow),
            paint.paint(hue, event::verdict(flow)),
            event::summary(flow),
        )
    }

    fn end(&self, host: &Host, identity: &str) -> String {
        let paint = self.0.paint;
        let name = paint.paint(Hue::Cyan, &host.name);
        let identity = paint.paint(Hue::Magenta, identity);
        match host.port {
            0 => format!("{name} {identity}"),
            port => format!(
                "{name}:{} {identity}",
                paint.paint(Hue::Yellow, &port.to_string())
            ),
        }
    }

    fn node(&self, name: &str) -> String {
        if self.0.node_name {
            format!(" [{name}]")
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
