//! What a probe must find, and whether it did: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::probe::{Answer, Attempt, Identity, Report};

/// What a probe must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Answers of servers.
    Servers(Servers),
    /// The addresses of a name, no others, of the families that the client has.
    Addresses(BTreeSet<IpAddr>),
}

/// Which servers must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// The only ones that may.
    pub only: BTreeSet<String>,
    /// Those that must at least once.
    pub each: BTreeSet<String>,
    /// They must see the address and port of who asks.
    pub see_asker: bool,
}

/// Says what was found, or what is wrong with it.
pub fn judge(expect: &Expect, report: &Report) -> Result<String, String> {
    if report.attempts.is_empty() {
        return Err("nothing was tried".to_owned());
    }
    failures(&report.attempts)?;
    match expect {
        Expect::Servers(servers) => judge_servers(servers, &report.attempts),
        Expect::Addresses(expected) => judge_addresses(expected, &report.attempts[0].answer),
    }
}

/// Fails with each different reason once.
fn failures(attempts: &[Attempt]) -> Result<(), String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for attempt in attempts {
        if let Answer::Failed(why) = &attempt.answer {
            *reasons.entry(why).or_default() += 1;
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let all = attempts.len();
    let told = reasons.iter().map(|(why, count)| match (count, all) {
        (1, 1) => (*why).to_owned(),
        (count, all) => format!("{count} of {all}: {why}"),
    });
    Err(told.collect::<Vec<_>>().join("; "))
}

fn judge_servers(servers: &Servers, attempts: &[Attempt]) -> Result<String, String> {
    let mut answered = BTreeSet::new();
    for attempt in attempts {
        let Answer::Server(Identity { name, peer }) = &attempt.answer else {
            return Err("no server answered".to_owned());
        };
        if !servers.only.contains(name) {
            return Err(format!("{name} answered, which is not to be found there"));
        }
        if let Some(local) = attempt.local
            && servers.see_asker
            && local != *peer
        {
            return Err(format!("{name} was asked by {local} and saw {peer}"));
        }
        answered.insert(name);
    }
    let count = attempts.len();
    let missing = servers.each.iter().filter(|name| !answered.contains(name));
    let missing: Vec<_> = missing.map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} never answered, in {count} connections",
            missing.join(", ")
        ));
    }
    Ok(match answered.len() {
        1 => format!("{count} connections"),
        servers => format!("{count} connections to {servers} servers"),
    })
}

fn judge_addresses(expected: &BTreeSet<IpAddr>, answer: &Answer) -> Result<String, String> {
    let Answer::Addresses(found) = answer else {
        return Err("it is no name".to_owned());
    };
    let is_right = !found.is_empty() && found.iter().all(|address| expected.contains(address));
    if is_right {
        return Ok(list(found));
    }
    let (found, expected) = (list(found), list(expected));
    Err(format!("it is {found}, where the service has {expected}"))
}

fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    let texts: Vec<_> = addresses.into_iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(answer: Answer) -> Attempt {
        Attempt {
            local: Some("10.0.0.9:4000".parse().unwrap()),
            millis: 1.0,
            answer,
        }
    }

    fn server(name: &str, peer: &str) -> Attempt {
        attempt(Answer::Server(Identity {
            name: name.into(),
            peer: peer.parse().unwrap(),
        }))
    }

    fn failed(why: &str) -> Attempt {
        attempt(Answer::Failed(why.into()))
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn servers() {
        let expect = |see_asker| {
            Expect::Servers(Servers {
                only: names(&["a", "b"]),
                each: names(&["a", "b"]),
                see_asker,
            })
        };
        let (a, b) = (server("a", "10.0.0.9:4000"), server("b", "192.0.2.1:9"));
        let cases = [
            (vec![], false, Err("nothing was tried")),
            (
                vec![a.clone(), b.clone()],
                false,
                Ok("2 connections to 2 servers"),
            ),
            (
                vec![a.clone(), b],
                true,
                Err("b was asked by 10.0.0.9:4000 and saw 192.0.2.1:9"),
            ),
            (
                vec![a.clone(), a.clone()],
                false,
                Err("b never answered, in 2 connections"),
            ),
            (
                vec![server("c", "[::1]:9")],
                false,
                Err("c answered, which is not to be found there"),
            ),
            (vec![failed("refused")], false, Err("refused")),
            (
                vec![a, failed("refused"), failed("silence"), failed("refused")],
                false,
                Err("2 of 4: refused; 1 of 4: silence"),
            ),
        ];
        for (attempts, see_asker, expected) in cases {
            let result = judge(&expect(see_asker), &Report { attempts });
            let result = result.as_deref().map_err(String::as_str);
            assert_eq!(result, expected);
        }
    }

    #[test]
    fn addresses_of_a_name() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let expect = Expect::Addresses(ips(&["10.96.0.1", "fd00::1"]).into_iter().collect());
        let judged = |found: &[&str]| {
            let attempts = vec![attempt(Answer::Addresses(ips(found)))];
            judge(&expect, &Report { attempts })
        };
        assert_eq!(judged(&["10.96.0.1"]).unwrap(), "10.96.0.1");
        assert!(judged(&[]).is_err());
        let wrong = judged(&["10.96.0.1", "192.0.2.1"]).unwrap_err();
        assert_eq!(
            wrong,
            "it is 10.96.0.1, 192.0.2.1, where the service has 10.96.0.1, fd00::1"
        );
    }
}
