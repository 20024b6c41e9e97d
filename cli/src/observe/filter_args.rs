//! The filter flags: one table says what each is called, explains it, and does.
//!
//! Which flag `--not` stands before matters, so the values are collected in the order of the
//! command line.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use weir_proto::flow::FlowFilter;

use super::filters::{End, Tracker};
use super::values;

/// A filter flag.
struct Flag {
    name: &'static str,
    short: Option<char>,
    /// What the help calls its value; empty if it takes none.
    value: &'static str,
    help: &'static str,
    /// Several values may be given at once, with commas between them.
    list: bool,
    set: fn(&mut Tracker, &str) -> Result<(), String>,
}

impl Flag {
    const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    /// For values that have commas in them.
    const fn single(self) -> Self {
        Self {
            list: false,
            ..self
        }
    }
}

/// A flag about the flow as a whole: its field and how its values are parsed.
macro_rules! whole {
    ($name:literal, $value:literal, $help:literal, $field:ident, $parse:path) => {
        Flag {
            name: $name,
            short: None,
            value: $value,
            help: $help,
            list: true,
            set: |tracker, value| {
                let parsed = $parse(value)?;
                tracker.each(|filter| filter.$field.push(parsed.clone()));
                Ok(())
            },
        }
    };
}

/// The flags of something that both ends have: for either end, for the source, for the destination.
macro_rules! ends {
    ($name:literal, $value:literal, $help:literal, $set:expr) => {
        [
            ends!($name, $value, $help, End::Either, $set),
            ends!(
                concat!("from-", $name),
                $value,
                "The same, of the source",
                End::Source,
                $set
            ),
            ends!(
                concat!("to-", $name),
                $value,
                "The same, of the destination",
                End::Destination,
                $set
            ),
        ]
    };
    ($name:expr, $value:literal, $help:literal, $end:expr, $set:expr) => {
        Flag {
            name: $name,
            short: None,
            value: $value,
            help: $help,
            list: true,
            set: |tracker, value| $set(tracker, $end, value),
        }
    };
}

/// Writes one of two fields.
macro_rules! field {
    ($source:ident, $destination:ident, $parse:path) => {
        |tracker: &mut Tracker, end: End, value: &str| {
            let parsed = $parse(value)?;
            tracker.end(
                end,
                |filter| filter.$source.push(parsed.clone()),
                |filter| filter.$destination.push(parsed.clone()),
            );
            Ok(())
        }
    };
}

/// Remembers a name until its namespace is known.
macro_rules! name {
    ($method:ident) => {
        |tracker: &mut Tracker, end: End, value: &str| {
            tracker.$method(end, &values::name(value)?);
            Ok(())
        }
    };
}

/// Flags about the ends of a flow.
#[rustfmt::skip]
const ENDS: [[Flag; 3]; 8] = [
    ends!("pod", "[NS/]PREFIX",
        "Pods whose names start like this; without a namespace, those of `default`",
        name!(pod)),
    with_short('n', ends!("namespace", "NAME",
        "Pods of this namespace; also where --pod and --service look for names without one",
        name!(namespace))),
    ends!("service", "[NS/]PREFIX",
        "Services whose names start like this, reached by an address of their own",
        name!(service)),
    ends!("ip", "IP|CIDR", "An address or a network",
        field!(source_ip, destination_ip, values::text)),
    ends!("port", "PORT", "A TCP, UDP or SCTP port",
        field!(source_port, destination_port, values::text)),
    single(ends!("label", "SELECTOR", "Pods by a selector, as kubectl takes it: app=web,tier!=test",
        field!(source_label, destination_label, values::text))),
    ends!("identity", "ID|NAME", "An identity, shown as `(ID:4711)` or `(world)`",
        field!(source_identity, destination_identity, values::identity)),
    ends!("workload", "[KIND/]NAME", "Pods of a Deployment, StatefulSet, ...",
        field!(source_workload, destination_workload, values::workload)),
];

/// A flag about the flow as a whole that takes no value.
macro_rules! bare {
    ($name:literal, $help:literal, $field:ident, $value:expr) => {
        Flag {
            name: $name,
            short: None,
            value: "",
            help: $help,
            list: false,
            set: |tracker, _| {
                tracker.each(|filter| filter.$field.push($value));
                Ok(())
            },
        }
    };
}

/// Flags about the flow as a whole.
#[rustfmt::skip]
const WHOLE: [Flag; 14] = [
    whole!("verdict", "VERDICT", "FORWARDED, DROPPED, TRANSLATED (a socket's address), ...",
        verdict, values::verdict),
    whole!("protocol", "NAME", "tcp, udp, sctp, icmp, icmpv4, icmpv6, ...",
        protocol, values::text),
    whole!("type", "TYPE[:SUB]", "drop, trace, trace:to-endpoint, trace-sock, ...",
        event_type, values::event_type).short('t'),
    whole!("drop-reason-desc", "NAME", "Drops for this reason: SERVICE_BACKEND_NOT_FOUND, ...",
        drop_reason_desc, values::drop_reason),
    whole!("traffic-direction", "DIRECTION", "ingress or egress, as a pod sees the connection",
        traffic_direction, values::direction),
    whole!("tcp-flags", "FLAGS", "Packets with all of these flags: syn,ack",
        tcp_flags, values::tcp_flags).single(),
    whole!("ip-version", "4|6", "Only one family",
        ip_version, values::ip_version),
    whole!("snat-ip", "IP|CIDR", "The address that the source was translated to",
        source_ip_xlated, values::text),
    whole!("interface", "NAME", "Seen at this interface of the node",
        interface, values::interface),
    whole!("node-name", "PATTERN", "Seen by a node with a name like this: worker-*",
        node_name, values::text),
    whole!("node-label", "SELECTOR", "Seen by a node with these labels",
        node_labels, values::text).single(),
    bare!("encrypted", "Seen at the device that encrypts, on the way in or out", encrypted, true),
    bare!("unencrypted", "Seen elsewhere; it may be encrypted on its way", encrypted, false),
    whole!("uuid", "UUID", "The flow with this id",
        uuid, values::text),
];

const fn with_short(short: char, flags: [Flag; 3]) -> [Flag; 3] {
    let [either, from, to] = flags;
    [either.short(short), from, to]
}

const fn single(flags: [Flag; 3]) -> [Flag; 3] {
    let [either, from, to] = flags;
    [either.single(), from.single(), to.single()]
}

fn flags() -> impl Iterator<Item = &'static Flag> {
    ENDS.iter().flatten().chain(&WHOLE)
}

const NOT: &str = "not";
const ALL_NAMESPACES: &str = "all-namespaces";

/// The filters of a command line.
#[derive(Debug, Default)]
pub(crate) struct FilterArgs {
    /// Name of the flag, its value, and whether `--not` stood before it, in order.
    given: Vec<Given>,
    all_namespaces: bool,
    /// The last flag was `--not`.
    dangling_not: bool,
}

#[derive(Debug)]
struct Given {
    flag: &'static str,
    value: String,
    negated: bool,
}

impl FilterArgs {
    /// The allow list and the deny list. The error is for the user.
    pub(super) fn lists(&self) -> Result<(Vec<FlowFilter>, Vec<FlowFilter>), String> {
        if self.dangling_not {
            return Err("--not: a filter must follow".into());
        }
        let (mut allow, mut deny) = (Tracker::default(), Tracker::default());
        if self.all_namespaces {
            allow.namespace(End::Either, "");
        }
        for Given {
            flag: name,
            value,
            negated,
        } in &self.given
        {
            let tracker = if *negated { &mut deny } else { &mut allow };
            let flag = flags()
                .find(|flag| flag.name == *name)
                .expect("given flags are known");
            (flag.set)(tracker, value).map_err(|reason| format!("--{name}: {reason}"))?;
        }
        Ok((allow.finish()?, deny.finish()?))
    }
}

impl Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("Filters");
        let not = Arg::new(NOT)
            .long(NOT)
            // One value per occurrence, so that each has a place of its own.
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("")
            .help("Flows that do not match the filter that follows");
        let all = Arg::new(ALL_NAMESPACES)
            .long(ALL_NAMESPACES)
            .short('A')
            .action(ArgAction::SetTrue)
            .conflicts_with("namespace")
            .help("Pods of all namespaces; --pod and --service look in all of them");
        let args = flags().map(|flag| {
            let arg = Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .help(flag.help);
            let arg = arg.action(ArgAction::Append);
            let arg = if flag.value.is_empty() {
                arg.num_args(0).default_missing_value("")
            } else {
                arg
            };
            let arg = if flag.list {
                arg.value_delimiter(',')
            } else {
                arg
            };
            match flag.short {
                Some(short) => arg.short(short),
                None => arg,
            }
        });
        command.args(args).arg(all).arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut places: Vec<(usize, &'static str, String)> = Vec::new();
        for name in flags().map(|flag| flag.name).chain([NOT]) {
            let values = matches
                .get_many::<String>(name)
                .into_iter()
                .flatten()
                .cloned();
            let indices = matches.indices_of(name).into_iter().flatten();
            places.extend(
                indices
                    .zip(values)
                    .map(|(index, value)| (index, name, value)),
            );
        }
        places.sort_unstable();
        let mut args = Self {
            all_namespaces: matches.get_flag(ALL_NAMESPACES),
            ..Self::default()
        };
        let mut previous = None;
        for (index, flag, value) in places {
            if flag == NOT {
                args.dangling_not = true;
                continue;
            }
            // The flag itself has a place too: values without a gap belong to one flag.
            let continued = previous == Some((index - 1, flag));
            let negated = if continued {
                args.given.last().is_some_and(|given| given.negated)
            } else {
                args.dangling_not
            };
            args.dangling_not = false;
            args.given.push(Given {
                flag,
                value,
                negated,
            });
            previous = Some((index, flag));
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
