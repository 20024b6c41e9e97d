//! Flows as blocks of `KEY: VALUE` lines.

use std::io::{self, Write};

use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::get_flows_response::ResponseTypes;

use super::event;
use super::{Style, table};

/// Writes each flow as a block, with a line between two.
pub(crate) struct Dict {
    style: Style,
    started: bool,
}

impl Dict {
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            started: false,
        }
    }

    pub(crate) fn write(
        &mut self,
        answer: &GetFlowsResponse,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let fields = match &answer.response_types {
            Some(ResponseTypes::Flow(flow)) => table::fields(flow, self.style),
            Some(ResponseTypes::LostEvents(lost)) => vec![
                ("TIMESTAMP", event::time(answer.time.as_ref())),
                ("TYPE", event::lost(lost)),
            ],
            Some(ResponseTypes::NodeStatus(_)) | None => return Ok(()),
        };
        if self.started {
            writeln!(out, "------------")?;
        }
        self.started = true;
        fields
            .iter()
            .try_for_each(|(key, value)| writeln!(out, "{key:>11}: {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;
    use crate::output::compact::tests::{answer, flow, lost};

    #[test]
    fn blocks() {
        let style = Style {
            paint: Paint::new(false),
            numeric: false,
            node_name: true,
        };
        let mut dict = Dict::new(style);
        let mut out = Vec::new();
        dict.write(&answer(flow()), &mut out).unwrap();
        dict.write(&lost(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  TIMESTAMP: Nov 22 21:42:46.133
       NODE: node-1
     SOURCE: production/web-x:40001
DESTINATION: production/api-y:8080
       TYPE: to-endpoint
    VERDICT: FORWARDED
    SUMMARY: TCP Flags: SYN
------------
  TIMESTAMP: Nov 22 21:42:46.133
       TYPE: EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 3
"
        );
    }
}
