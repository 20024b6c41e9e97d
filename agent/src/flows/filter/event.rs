//! Fields about the event itself: its class, verdict, direction, place and id.

use uuid::Uuid;
use weir_proto::flow::FlowFilter;

use super::{Fields, FilterError};

pub(super) fn compile(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    fields.add_plain(&filter.verdict, |verdict, record| {
        record.verdict() as i32 == *verdict
    });
    fields.add_plain(&filter.event_type, |wanted, record| {
        let (class, sub_type) = record.event_type();
        (wanted.r#type == 0 || wanted.r#type == class)
            && (!wanted.match_sub_type || wanted.sub_type == sub_type)
    });
    fields.add_plain(&filter.reply, |wanted, record| {
        let reply = record.is_reply().or(record.is_drop().then_some(false));
        reply == Some(*wanted)
    });
    fields.add_plain(&filter.traffic_direction, |direction, record| {
        record.traffic_direction() as i32 == *direction
    });
    fields.add_plain(&filter.drop_reason_desc, |reason, record| {
        record.is_drop() && i32::from(record.event.drop_reason) == *reason
    });
    fields.add_plain(&filter.interface, |wanted, record| {
        record.event.ifindex != 0
            && (wanted.index == 0 || wanted.index == record.event.ifindex)
            && (wanted.name.is_empty() || record.interface.as_deref() == Some(&wanted.name))
    });
    // Text that is no UUID equals no record's.
    let uuid = |text: &str| Ok(Uuid::try_parse(text).ok());
    fields.add_text("uuid", &filter.uuid, uuid, |wanted, record| {
        *wanted == Some(record.uuid)
    })?;
    fields.add_plain(&filter.ip_trace_id, |wanted, _| *wanted == 0);

    let cel = filter
        .experimental
        .iter()
        .flat_map(|fields| &fields.cel_expression);
    match cel.into_iter().next() {
        None => Ok(()),
        Some(_) => Err(FilterError {
            field: "experimental.cel_expression",
            reason: "CEL is not supported by this server".into(),
        }),
    }
}
