//! Keys and certificates of one control plane.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Writes an authority, a certificate of the API server for these addresses, and the key that signs
/// tokens of service accounts.
pub(super) fn write(folder: &Path, addresses: &[IpAddr]) -> Result<()> {
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))
    };
    let key = KeyPair::generate().context("make a key")?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority
        .distinguished_name
        .push(DnType::CommonName, "weir-tests");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    write("ca.crt", authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);

    let names = ["localhost", "kubernetes.default.svc"].map(str::to_owned);
    let addresses = addresses.iter().map(ToString::to_string);
    let loopback = ["127.0.0.1", "10.96.0.1"].map(str::to_owned);
    let subjects: Vec<_> = names.into_iter().chain(addresses).chain(loopback).collect();
    let key = KeyPair::generate().context("make a key")?;
    let mut server = CertificateParams::new(subjects)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    write("server.crt", server.signed_by(&key, &issuer)?.pem())?;
    write("server.key", key.serialize_pem())?;

    let accounts = KeyPair::generate().context("make a key")?;
    write("accounts.key", accounts.serialize_pem())?;
    write("accounts.pub", accounts.public_key_pem())
}
