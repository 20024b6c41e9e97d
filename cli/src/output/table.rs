//! Flows as a table. Its columns are as wide as their widest cell, so nothing can be shown before
//! the last flow came.

use std::io::{self, Write};

use weir_proto::flow::Flow;
use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::get_flows_response::ResponseTypes;

use super::event::{self, Host};
use super::{Columns, Style};

/// Collects flows until [`Table::finish`].
pub(crate) struct Table {
    style: Style,
    columns: Columns,
    /// Notices of losses, which are shown behind the table.
    notices: Vec<String>,
}

impl Table {
    pub(crate) fn new(style: Style) -> Self {
        let headings = fields(&Flow::default(), style)
            .into_iter()
            .map(|(heading, _)| heading);
        let columns = Columns::new(&headings.collect::<Vec<_>>());
        Self {
            style,
            columns,
            notices: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, answer: &GetFlowsResponse) {
        match &answer.response_types {
            Some(ResponseTypes::Flow(flow)) => {
                self.columns
                    .row(fields(flow, self.style).into_iter().map(|(_, value)| value));
            }
            Some(ResponseTypes::LostEvents(lost)) => {
                let time = event::time(answer.time.as_ref());
                self.notices.push(format!("{time} {}", event::lost(lost)));
            }
            Some(ResponseTypes::NodeStatus(_)) | None => {}
        }
    }

    pub(crate) fn finish(&self, out: &mut dyn Write) -> io::Result<()> {
        self.columns.write("", out)?;
        self.notices
            .iter()
            .try_for_each(|notice| writeln!(out, "{notice}"))
    }
}

/// What a table and a block show of a flow.
pub(super) fn fields(flow: &Flow, style: Style) -> Vec<(&'static str, String)> {
    let (source, destination) = event::hosts(flow, style.numeric);
    let end = |host: Host| match host.port {
        0 => host.name,
        port => format!("{}:{port}", host.name),
    };
    let mut fields = vec![
        ("TIMESTAMP", event::time(flow.time.as_ref())),
        ("SOURCE", end(source)),
        ("DESTINATION", end(destination)),
        ("TYPE", event::kind(flow)),
        ("VERDICT", event::verdict(flow).to_owned()),
        ("SUMMARY", event::summary(flow)),
    ];
    if style.node_name {
        fields.insert(1, ("NODE", flow.node_name.clone()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;
    use crate::output::compact::tests::{answer, flow, lost};

    #[test]
    fn columns_fit_their_cells_and_notices_follow() {
        let style = Style {
            paint: Paint::new(true),
            numeric: false,
            node_name: false,
        };
        let mut table = Table::new(style);
        table.add(&answer(flow()));
        table.add(&lost());
        let mut out = Vec::new();
        table.finish(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
TIMESTAMP             SOURCE                   DESTINATION             TYPE          VERDICT     SUMMARY
Nov 22 21:42:46.133   production/web-x:40001   production/api-y:8080   to-endpoint   FORWARDED   TCP Flags: SYN
Nov 22 21:42:46.133 EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 3
"
        );
    }
}
