//! `weir service list`.

use std::io::Write;

use weir_proto::admin::{
    BackendState, Frontend, ListServicesRequest, ListServicesResponse, Protocol, Scope,
};

use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::Columns;

pub(crate) async fn list(
    server: &Server,
    args: &OutputArgs,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client
        .list_services(ListServicesRequest {})
        .await?
        .into_inner();
    match args.output {
        Form::Json => {
            json::write_line("weir.admin.v1.ListServicesResponse", &answer, true, out)?;
        }
        Form::Text => table(&answer).write("", out)?,
    }
    Ok(())
}

/// One row per frontend.
fn table(answer: &ListServicesResponse) -> Columns {
    let headings = [
        "NAMESPACE",
        "NAME",
        "PORT",
        "FRONTEND",
        "SCOPE",
        "BACKENDS",
        "SLOTS",
    ];
    let mut columns = Columns::new(&headings);
    for service in &answer.services {
        for port in &service.ports {
            let ready = |state| state == BackendState::Ready;
            let ready = port
                .backends
                .iter()
                .filter(|backend| ready(backend.state()))
                .count();
            for frontend in &port.frontends {
                columns.row([
                    service.namespace.clone(),
                    service.name.clone(),
                    if port.name.is_empty() {
                        "-".into()
                    } else {
                        port.name.clone()
                    },
                    dialled(frontend),
                    scope(frontend.scope()).to_owned(),
                    format!("{ready}/{}", port.backends.len()),
                    port.table_size.to_string(),
                ]);
            }
        }
    }
    columns
}

/// `TCP 10.96.0.1:80`.
fn dialled(frontend: &Frontend) -> String {
    let address = socket_address(&frontend.address, frontend.port);
    format!("{} {address}", protocol(frontend.protocol()))
}

/// Address and port, an IPv6 address in brackets.
pub(crate) fn socket_address(address: &str, port: u32) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Unspecified => "?",
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::ClusterIp => "ClusterIP",
        Scope::NodePort => "NodePort",
        Scope::ExternalIp => "ExternalIP",
        Scope::LoadBalancer => "LoadBalancer",
        Scope::Unspecified => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_proto::admin::{Backend, Service, ServicePort};

    #[test]
    fn a_row_per_frontend() {
        let frontend = |address: &str, protocol: Protocol, scope: Scope| Frontend {
            address: address.into(),
            port: 80,
            protocol: protocol.into(),
            scope: scope.into(),
        };
        let backend = |state: BackendState| Backend {
            state: state.into(),
            ..Backend::default()
        };
        let answer = ListServicesResponse {
            services: vec![Service {
                namespace: "shop".into(),
                name: "web".into(),
                ports: vec![
                    ServicePort {
                        name: "http".into(),
                        frontends: vec![
                            frontend("10.96.0.1", Protocol::Tcp, Scope::ClusterIp),
                            frontend("203.0.113.1", Protocol::Tcp, Scope::LoadBalancer),
                        ],
                        backends: vec![
                            backend(BackendState::Ready),
                            backend(BackendState::Terminating),
                        ],
                        table_size: 251,
                        ..ServicePort::default()
                    },
                    ServicePort {
                        frontends: vec![frontend("fd00::1", Protocol::Udp, Scope::NodePort)],
                        ..ServicePort::default()
                    },
                ],
            }],
        };
        let mut out = Vec::new();
        table(&answer).write("", &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
NAMESPACE   NAME   PORT   FRONTEND             SCOPE          BACKENDS   SLOTS
shop        web    http   TCP 10.96.0.1:80     ClusterIP      1/2        251
shop        web    http   TCP 203.0.113.1:80   LoadBalancer   1/2        251
shop        web    -      UDP [fd00::1]:80     NodePort       0/0        0
"
        );
    }
}
