//! Arguments -> `GetFlowsRequest`.

use jiff::Timestamp;
use prost_types::FieldMask;
use weir_proto::observer::GetFlowsRequest;

use super::Selection;
use super::filter_args::FilterArgs;

/// Flows shown if nothing else is asked for.
const DEFAULT_LAST: u64 = 20;

/// The fields that the text forms show.
const SHOWN: [&str; 26] = [
    "time",
    "verdict",
    "ethernet",
    "IP",
    "l4",
    "source.identity",
    "source.namespace",
    "source.pod_name",
    "destination.identity",
    "destination.namespace",
    "destination.pod_name",
    "Type",
    "node_name",
    "l7",
    "event_type",
    "source_service",
    "destination_service",
    "source_names",
    "destination_names",
    "is_reply",
    "traffic_direction",
    "policy_match_type",
    "sock_xlate_point",
    "auth_type",
    "Summary",
    "ip_trace_id",
];

/// The request for a selection seen from `now`. The error is for the user.
pub(super) fn build(
    selection: &Selection,
    filters: &FilterArgs,
    with_mask: bool,
    now: Timestamp,
) -> Result<GetFlowsRequest, String> {
    let time = |time: Timestamp| prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    };
    let nothing_else = !selection.follow && selection.since.is_none() && selection.until.is_none();
    let number = match (selection.last.or(selection.first), selection.all) {
        (Some(number), _) => number,
        (None, true) => u64::MAX,
        (None, false) if nothing_else => DEFAULT_LAST,
        (None, false) => 0,
    };
    let (whitelist, blacklist) = filters.lists()?;
    let paths = SHOWN.map(str::to_owned).to_vec();
    Ok(GetFlowsRequest {
        number,
        first: selection.first.is_some(),
        follow: selection.follow,
        since: selection.since.map(|moment| time(moment.resolve(now))),
        until: selection.until.map(|moment| time(moment.resolve(now))),
        whitelist,
        blacklist,
        field_mask: with_mask.then_some(FieldMask { paths }),
        ..GetFlowsRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use crate::Arguments;
    use crate::args::Command;
    use clap::Parser as _;

    use super::*;

    fn request(arguments: &str) -> GetFlowsRequest {
        let words = ["weir", "observe"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let Command::Observe(args) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("another command")
        };
        build(
            &args.selection,
            &args.filters,
            false,
            Timestamp::from_second(1_000).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn selections() {
        type R = GetFlowsRequest;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let cases = [
            (
                "",
                R {
                    number: 20,
                    ..R::default()
                },
            ),
            (
                "--last 5",
                R {
                    number: 5,
                    ..R::default()
                },
            ),
            (
                "--first 3",
                R {
                    number: 3,
                    first: true,
                    ..R::default()
                },
            ),
            (
                "--all",
                R {
                    number: u64::MAX,
                    ..R::default()
                },
            ),
            (
                "-f",
                R {
                    follow: true,
                    ..R::default()
                },
            ),
            (
                "-f --last 20",
                R {
                    follow: true,
                    number: 20,
                    ..R::default()
                },
            ),
            (
                "--since 5m",
                R {
                    since: at(700),
                    ..R::default()
                },
            ),
            (
                "--since 5m --until 1m",
                R {
                    since: at(700),
                    until: at(940),
                    ..R::default()
                },
            ),
            (
                "--until 1m",
                R {
                    until: at(940),
                    ..R::default()
                },
            ),
            (
                "--since 5m --last 3",
                R {
                    since: at(700),
                    number: 3,
                    ..R::default()
                },
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(request(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn the_text_forms_ask_for_what_they_show_only() {
        let words = ["weir", "observe"];
        let Command::Observe(args) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("another command")
        };
        let request = build(&args.selection, &args.filters, true, Timestamp::UNIX_EPOCH).unwrap();
        let paths = request.field_mask.unwrap().paths;
        assert!(weir_agent::flows::mask::Mask::compile(&paths).is_ok());
    }

    #[test]
    fn selections_that_exclude_each_other_are_refused() {
        for arguments in [
            "--first 1 --last 1",
            "--first 1 -f",
            "--all --last 1",
            "--last x",
        ] {
            let words = ["weir", "observe"]
                .into_iter()
                .chain(arguments.split_whitespace());
            let error = Arguments::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments}");
        }
    }
}
