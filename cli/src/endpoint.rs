//! `weir endpoint list`.

use std::io::Write;

use weir_proto::admin::{ListEndpointsRequest, ListEndpointsResponse, TcMode};

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
        .list_endpoints(ListEndpointsRequest {})
        .await?
        .into_inner();
    match args.output {
        Form::Json => {
            json::write_line("weir.admin.v1.ListEndpointsResponse", &answer, true, out)?;
        }
        Form::Text => table(&answer).write("", out)?,
    }
    Ok(())
}

fn table(answer: &ListEndpointsResponse) -> Columns {
    let headings = [
        "NAMESPACE",
        "NAME",
        "ADDRESSES",
        "IDENTITY",
        "INTERFACE",
        "TC",
    ];
    let mut columns = Columns::new(&headings);
    for endpoint in &answer.endpoints {
        let interface = if endpoint.interface.is_empty() {
            "-"
        } else {
            &endpoint.interface
        };
        columns.row([
            endpoint.namespace.clone(),
            endpoint.name.clone(),
            endpoint.addresses.join(","),
            endpoint.identity.to_string(),
            interface.to_owned(),
            tc_mode(endpoint.tc_mode()).to_owned(),
        ]);
    }
    columns
}

pub(crate) fn tc_mode(mode: TcMode) -> &'static str {
    match mode {
        TcMode::Tcx => "tcx",
        TcMode::Clsact => "clsact",
        TcMode::Unspecified => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_proto::admin::Endpoint;

    #[test]
    fn a_row_per_pod() {
        let endpoint = |name: &str, interface: &str, mode: TcMode| Endpoint {
            namespace: "shop".into(),
            name: name.into(),
            addresses: vec!["10.0.0.1".into(), "fd00::1".into()],
            identity: 4711,
            interface: interface.into(),
            tc_mode: mode.into(),
            ..Endpoint::default()
        };
        let endpoints = vec![
            endpoint("web-1", "veth1", TcMode::Tcx),
            endpoint("web-2", "", TcMode::Unspecified),
        ];
        let mut out = Vec::new();
        table(&ListEndpointsResponse { endpoints })
            .write("", &mut out)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
NAMESPACE   NAME    ADDRESSES          IDENTITY   INTERFACE   TC
shop        web-1   10.0.0.1,fd00::1   4711       veth1       tcx
shop        web-2   10.0.0.1,fd00::1   4711       -           -
"
        );
    }
}
