//! `weir backend list`.

use std::io::Write;

use weir_proto::admin::{BackendState, ListBackendsRequest, ListBackendsResponse};

use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::Columns;
use crate::service::{protocol, socket_address};

pub(crate) async fn list(
    server: &Server,
    args: &OutputArgs,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client
        .list_backends(ListBackendsRequest {})
        .await?
        .into_inner();
    match args.output {
        Form::Json => {
            json::write_line("weir.admin.v1.ListBackendsResponse", &answer, true, out)?;
        }
        Form::Text => table(&answer).write("", out)?,
    }
    Ok(())
}

fn table(answer: &ListBackendsResponse) -> Columns {
    let mut columns = Columns::new(&["ID", "BACKEND", "WHERE", "STATE", "SLOTS", "SERVICES"]);
    for found in &answer.backends {
        let backend = found.backend.clone().unwrap_or_default();
        let address = socket_address(&backend.address, backend.port);
        columns.row([
            backend.id.to_string(),
            format!("{} {address}", protocol(found.protocol())),
            if backend.local { "here" } else { "elsewhere" }.to_owned(),
            state(backend.state()).to_owned(),
            backend.slots.to_string(),
            found.services.join(","),
        ]);
    }
    columns
}

fn state(state: BackendState) -> &'static str {
    match state {
        BackendState::Ready => "ready",
        BackendState::Terminating => "terminating",
        BackendState::NotReady => "not ready",
        BackendState::Unspecified => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_proto::admin::{Backend, BackendUse, Protocol};

    #[test]
    fn a_row_per_backend() {
        let answer = ListBackendsResponse {
            backends: vec![BackendUse {
                backend: Some(Backend {
                    id: 4,
                    address: "10.0.0.2".into(),
                    port: 8080,
                    local: true,
                    state: BackendState::Terminating.into(),
                    slots: 0,
                }),
                protocol: Protocol::Tcp.into(),
                services: vec!["shop/web".into(), "shop/api".into()],
            }],
        };
        let mut out = Vec::new();
        table(&answer).write("", &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
ID   BACKEND             WHERE   STATE         SLOTS   SERVICES
4    TCP 10.0.0.2:8080   here    terminating   0       shop/web,shop/api
"
        );
    }
}
