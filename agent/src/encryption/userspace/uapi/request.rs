//! What a client asks for. Pure.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::encryption::key::{KEY_BYTES, PresharedKey, PrivateKey, PublicKey};
use crate::encryption::{FirewallMark, Port, Prefix};

/// A request.
#[derive(Debug)]
pub enum Request {
    /// Tell everything.
    Get,
    /// Change this, in this order.
    Set(Vec<Setting>),
}

/// One change of the device.
#[derive(Debug)]
pub enum Setting {
    PrivateKey(PrivateKey),
    Port(Port),
    Mark(Option<FirewallMark>),
    ReplacePeers,
    Peer(PublicKey, Vec<PeerSetting>),
}

/// One change of a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerSetting {
    Remove,
    UpdateOnly,
    PresharedKey(Option<PresharedKey>),
    Endpoint(SocketAddr),
    Keepalive(Option<NonZeroU16>),
    ReplaceAllowedIps,
    AddAllowedIp(Prefix),
    RemoveAllowedIp(Prefix),
}

/// Reads a request.
///
/// # Errors
/// `EINVAL` for a value that cannot be, `EPROTO` for what is no request at all.
pub fn parse(text: &str) -> io::Result<Request> {
    let mut lines = text.lines().take_while(|line| !line.is_empty());
    match lines.next() {
        Some("get=1") => Ok(Request::Get),
        Some("set=1") => settings(lines).map(Request::Set),
        _ => Err(errno(libc::EPROTO)),
    }
}

fn settings<'a>(lines: impl Iterator<Item = &'a str>) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for line in lines {
        let (key, value) = line.split_once('=').ok_or_else(|| errno(libc::EPROTO))?;
        match (key, settings.last_mut()) {
            ("public_key", _) => {
                let peer = PublicKey::new(*key_of(value)?).map_err(|_| errno(libc::EINVAL))?;
                settings.push(Setting::Peer(peer, Vec::new()));
            }
            // There is one version, and to ask for it changes nothing.
            ("protocol_version", _) if value == "1" => {}
            (_, Some(Setting::Peer(_, peer))) => peer.push(peer_setting(key, value)?),
            _ => settings.push(device_setting(key, value)?),
        }
    }
    Ok(settings)
}

fn device_setting(key: &str, value: &str) -> io::Result<Setting> {
    match key {
        "private_key" => Ok(Setting::PrivateKey(PrivateKey::from(*key_of(value)?))),
        "listen_port" => {
            let port = Port::try_from(number::<u16>(value)?);
            port.map(Setting::Port).map_err(|_| errno(libc::EINVAL))
        }
        "fwmark" => Ok(Setting::Mark(
            FirewallMark::try_from(number::<u32>(value)?).ok(),
        )),
        "replace_peers" if value == "true" => Ok(Setting::ReplacePeers),
        _ => Err(errno(libc::EINVAL)),
    }
}

fn peer_setting(key: &str, value: &str) -> io::Result<PeerSetting> {
    match (key, value) {
        ("remove", "true") => Ok(PeerSetting::Remove),
        ("update_only", "true") => Ok(PeerSetting::UpdateOnly),
        ("replace_allowed_ips", "true") => Ok(PeerSetting::ReplaceAllowedIps),
        ("preshared_key", key) => Ok(PeerSetting::PresharedKey(PresharedKey::new(*key_of(key)?))),
        ("endpoint", endpoint) => number(endpoint).map(PeerSetting::Endpoint),
        ("persistent_keepalive_interval", seconds) => {
            number(seconds).map(|seconds| PeerSetting::Keepalive(NonZeroU16::new(seconds)))
        }
        ("allowed_ip", prefix) => match prefix.strip_prefix('-') {
            Some(prefix) => number(prefix).map(PeerSetting::RemoveAllowedIp),
            None => number(prefix).map(PeerSetting::AddAllowedIp),
        },
        _ => Err(errno(libc::EINVAL)),
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn number<T: FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| errno(libc::EINVAL))
}

fn key_of(hex: &str) -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let digits = hex.as_bytes();
    if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(errno(libc::EINVAL));
    }
    for (byte, digits) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).expect("hexadecimal digits are ASCII");
        *byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits");
    }
    Ok(key)
}
