//! Fields about layer 7 and traces. Their syntax is checked, so that a mistake is told today as it
//! will be when records have layer 7; until then they match nothing.

use regex::Regex;
use weir_proto::flow::FlowFilter;

use super::{Fields, FilterError};

/// Class of layer-7 events in the flow API.
const L7_EVENT: i32 = 129;

pub(super) fn compile(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    check_event_type(filter)?;
    fields.add_text(
        "http_status_code",
        &filter.http_status_code,
        status_code,
        |(), _| false,
    )?;
    let expressions = [
        ("dns_query", &filter.dns_query),
        ("http_path", &filter.http_path),
        ("http_url", &filter.http_url),
    ];
    for (field, values) in expressions {
        fields.add_text(field, values, regex, |_, _| false)?;
    }
    fields.add_plain(&filter.http_method, |_, _| false);
    fields.add_plain(&filter.http_header, |_, _| false);
    fields.add_plain(&filter.trace_id, |_, _| false);
    Ok(())
}

/// HTTP fields beside a list of event types that leaves layer 7 out are a contradiction.
fn check_event_type(filter: &FlowFilter) -> Result<(), FilterError> {
    let asks = [
        ("http_status_code", filter.http_status_code.is_empty()),
        ("http_method", filter.http_method.is_empty()),
        ("http_path", filter.http_path.is_empty()),
        ("http_url", filter.http_url.is_empty()),
        ("http_header", filter.http_header.is_empty()),
    ];
    let asks = asks.iter().find(|(_, empty)| !empty);
    let excluded = !filter.event_type.is_empty()
        && filter
            .event_type
            .iter()
            .all(|wanted| wanted.r#type != L7_EVENT);
    match asks {
        Some((field, _)) if excluded => Err(FilterError {
            field,
            reason: "cannot be combined with event types other than l7".into(),
        }),
        _ => Ok(()),
    }
}

fn regex(value: &str) -> Result<Regex, String> {
    Regex::new(value).map_err(|error| error.to_string())
}

/// `404`, or one or two leading digits and a plus.
fn status_code(value: &str) -> Result<(), String> {
    let digits = value.strip_suffix('+').unwrap_or(value);
    let lengths = if digits.len() < value.len() {
        1..=2
    } else {
        3..=3
    };
    let valid = lengths.contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (b'1'..=b'5').contains(&digits.as_bytes()[0]);
    if valid {
        Ok(())
    } else {
        Err(format!("{value:?} is not a status like 404, 50+ or 4+"))
    }
}
