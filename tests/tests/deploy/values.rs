//! The chart refuses what does not exist, what cannot be done yet, and what does not fit together; and
//! says so.

use anyhow::{Result, ensure};

use crate::render::{is_available, refusal};

#[test]
fn what_cannot_be_done_is_refused_and_said() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let cases: &[(&[&str], &str, &[&str])] = &[
        // Not yet.
        (
            &["loadBalancer.mode=dsr"],
            "",
            &["loadBalancer/mode", "'snat'"],
        ),
        (
            &["loadBalancer.mode=hybrid"],
            "",
            &["loadBalancer/mode", "'snat'"],
        ),
        (
            &["loadBalancer.algorithm=random"],
            "",
            &["loadBalancer/algorithm", "'maglev'"],
        ),
        (
            &["encryption.type=ipsec"],
            "",
            &["encryption/type", "'wireguard'"],
        ),
        (
            &["hubble.relay.enabled=true"],
            "",
            &["hubble/relay/enabled", "false"],
        ),
        (
            &["hubble.ui.enabled=true"],
            "",
            &["hubble/ui/enabled", "false"],
        ),
        (
            &["hubble.metrics.enabled={dns,drop}"],
            "",
            &["hubble/metrics/enabled"],
        ),
        // Not at all.
        (&["ipam.mode=kubernetes"], "", &["'ipam'"]),
        (
            &["kubeProxyReplacment=true"],
            "",
            &["'kubeProxyReplacment'"],
        ),
        (
            &["loadBalancer.dsrDispatch=geneve"],
            "",
            &["loadBalancer", "'dsrDispatch'"],
        ),
        (
            &["kubeProxyReplacement=partial"],
            "",
            &["kubeProxyReplacement"],
        ),
        (&["image.digest=sha256:12"], "", &["image/digest"]),
        (
            &["encryption.strictMode.cidr=10.0.0.0"],
            "",
            &["encryption/strictMode/cidr"],
        ),
        (
            &["encryption.wireguard.persistentKeepalive=soon"],
            "",
            &["persistentKeepalive"],
        ),
        (&["prometheus.port=0"], "", &["prometheus/port"]),
        // The pods would lack what it takes.
        (
            &["config.encryption.enabled=true"],
            "",
            &["config.encryption.enabled", "needs encryption.enabled"],
        ),
        (
            &[
                "kubeProxyReplacement=true",
                "k8sServiceHost=192.0.2.1",
                "config.loadBalancer.enabled=false",
            ],
            "",
            &["config.loadBalancer.enabled"],
        ),
        // kubelet asks at another.
        (
            &["prometheus.address=192.0.2.1"],
            "",
            &["prometheus/address", "'[::]'"],
        ),
        (
            &[],
            "config: {flows: {capacty: 5}}",
            &["config/flows", "'capacty'"],
        ),
        (
            &[],
            "config: {devices: {xdpMode: fast}}",
            &["config/devices/xdpMode", "'native'"],
        ),
        (
            &[],
            "config: {flows: {capacity: 5}}",
            &["config/flows/capacity", "16"],
        ),
        // Not together.
        (
            &["kubeProxyReplacement=true"],
            "",
            &["kubeProxyReplacement needs k8sServiceHost"],
        ),
        (
            &[
                "kubeProxyReplacement=true",
                "k8sServiceHost=a",
                "loadBalancer.enabled=false",
            ],
            "",
            &["kubeProxyReplacement needs loadBalancer.enabled"],
        ),
        (&["k8sServiceHost=auto"], "", &["k8sServiceHost"]),
        (
            &["encryption.nodeEncryption=true"],
            "",
            &["nodeEncryption has no effect"],
        ),
        (
            &["bpf.hostLegacyRouting=false", "encryption.enabled=true"],
            "",
            &["hostLegacyRouting: false needs kubeProxyReplacement"],
        ),
        (
            &["prometheus.podMonitor.enabled=true"],
            "",
            &["podMonitor needs prometheus.enabled"],
        ),
        (
            &[],
            "config: {metrics: {enabled: false}}",
            &["config.metrics.enabled", "kubelet asks there"],
        ),
        (
            &[],
            "config: {metrics: {listen: '192.0.2.1:9965'}}",
            &["config.metrics.listen", "kubelet asks there"],
        ),
    ];
    for (values, file, parts) in cases {
        let said = refusal(values, file)?;
        for part in *parts {
            ensure!(
                said.contains(part),
                "{values:?} {file}: {part:?} is not in {said}"
            );
        }
    }
    Ok(())
}
