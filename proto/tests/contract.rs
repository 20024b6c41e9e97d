//! Holds the compiled descriptors against a table of the flow API's names and numbers.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::descriptor_proto::ReservedRange;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

type Numbers = BTreeMap<String, i32>;

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(weir_proto::FILE_DESCRIPTOR_SET).unwrap()
}

/// Reads `MESSAGE: NAME=NUMBER ...`, continued on indented lines.
fn contract() -> BTreeMap<String, Numbers> {
    let mut all: BTreeMap<String, Numbers> = BTreeMap::new();
    let mut current = String::new();
    for line in include_str!("contract.txt").lines() {
        let mut rest = line;
        if let Some((name, fields)) = line.split_once(':') {
            name.clone_into(&mut current);
            rest = fields;
        }
        let numbers = all.entry(current.clone()).or_default();
        for item in rest.split_whitespace() {
            let (name, number) = item.split_once('=').unwrap();
            numbers.insert(name.to_owned(), number.parse().unwrap());
        }
    }
    all
}

fn add_enum(scope: &str, kind: &EnumDescriptorProto, all: &mut BTreeMap<String, Numbers>) {
    let numbers = kind
        .value
        .iter()
        .map(|v| (v.name().to_owned(), v.number()))
        .collect();
    all.insert(format!("{scope}.{}", kind.name()), numbers);
}

fn add_message(scope: &str, message: &DescriptorProto, all: &mut BTreeMap<String, Numbers>) {
    let name = format!("{scope}.{}", message.name());
    message
        .nested_type
        .iter()
        .for_each(|nested| add_message(&name, nested, all));
    message
        .enum_type
        .iter()
        .for_each(|kind| add_enum(&name, kind, all));
    let numbers = message
        .field
        .iter()
        .map(|f| (f.name().to_owned(), f.number()))
        .collect();
    all.insert(name, numbers);
}

#[test]
fn every_name_and_number_is_the_contracts() {
    let mut compiled = BTreeMap::new();
    for file in descriptors().file {
        if ["flow", "observer", "peer", "relay"].contains(&file.package()) {
            file.message_type
                .iter()
                .for_each(|m| add_message(file.package(), m, &mut compiled));
            file.enum_type
                .iter()
                .for_each(|e| add_enum(file.package(), e, &mut compiled));
        }
    }
    // Messages without fields are not worth a line in the table.
    compiled.retain(|_, numbers| !numbers.is_empty());
    let mut expected = contract();
    expected.retain(|_, numbers| !numbers.is_empty());
    for (name, numbers) in &expected {
        assert_eq!(compiled.get(name), Some(numbers), "{name}");
    }
    assert_eq!(
        compiled.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
}

#[test]
fn numbers_once_used_stay_reserved() {
    let cases = [
        ("flow/flow.proto", "Flow", vec![7, 12, 17, 18]),
        ("observer/observer.proto", "GetFlowsRequest", vec![2]),
    ];
    let descriptors = descriptors();
    for (file, message, numbers) in cases {
        let file = descriptors.file.iter().find(|f| f.name() == file).unwrap();
        let message = file
            .message_type
            .iter()
            .find(|m| m.name() == message)
            .unwrap();
        let reserved: Vec<i32> = message
            .reserved_range
            .iter()
            .map(ReservedRange::start)
            .collect();
        assert_eq!(reserved, numbers, "{}", message.name());
    }
}

#[test]
fn services_have_the_paths_that_clients_call() {
    let mut paths = Vec::new();
    for file in descriptors().file {
        for service in &file.service {
            for method in &service.method {
                let stream = if method.server_streaming() {
                    " stream"
                } else {
                    ""
                };
                paths.push(format!(
                    "/{}.{}/{}{stream}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    paths.sort();
    assert_eq!(
        paths,
        [
            "/observer.Observer/GetAgentEvents stream",
            "/observer.Observer/GetDebugEvents stream",
            "/observer.Observer/GetFlows stream",
            "/observer.Observer/GetNamespaces",
            "/observer.Observer/GetNodes",
            "/observer.Observer/ServerStatus",
            "/peer.Peer/Notify stream",
            "/weir.admin.v1.Admin/EncryptionReport",
            "/weir.admin.v1.Admin/EncryptionStatus",
            "/weir.admin.v1.Admin/ListBackends",
            "/weir.admin.v1.Admin/ListEndpoints",
            "/weir.admin.v1.Admin/ListPeers",
            "/weir.admin.v1.Admin/ListServices",
            "/weir.admin.v1.Admin/RotateKey",
            "/weir.admin.v1.Admin/Status",
        ]
    );
}

#[test]
fn field_kinds_are_the_contracts() {
    use prost_types::field_descriptor_proto::{Label, Type};
    let descriptors = descriptors();
    let kind = |path: &str| {
        let (package, rest) = path.split_once('.').unwrap();
        let (message, field) = rest.split_once('.').unwrap();
        let files = descriptors.file.iter().filter(|f| f.package() == package);
        let message = files
            .flat_map(|f| &f.message_type)
            .find(|m| m.name() == message)
            .unwrap();
        let field = message
            .field
            .iter()
            .find(|f| f.name() == field)
            .unwrap()
            .clone();
        (
            field.label(),
            field.r#type(),
            field.type_name().trim_start_matches('.').to_owned(),
        )
    };
    let cases = [
        (
            "flow.Flow.is_reply",
            Label::Optional,
            Type::Message,
            "google.protobuf.BoolValue",
        ),
        ("flow.Flow.IP", Label::Optional, Type::Message, "flow.IP"),
        (
            "flow.Flow.Type",
            Label::Optional,
            Type::Enum,
            "flow.FlowType",
        ),
        ("flow.Flow.drop_reason", Label::Optional, Type::Uint32, ""),
        ("flow.Flow.socket_cookie", Label::Optional, Type::Uint64, ""),
        (
            "flow.CiliumEventType.sub_type",
            Label::Optional,
            Type::Int32,
            "",
        ),
        (
            "flow.LostEvent.cpu",
            Label::Optional,
            Type::Message,
            "google.protobuf.Int32Value",
        ),
        (
            "flow.FlowFilter.source_port",
            Label::Repeated,
            Type::String,
            "",
        ),
        (
            "flow.FlowFilter.source_identity",
            Label::Repeated,
            Type::Uint32,
            "",
        ),
        (
            "flow.FlowFilter.ip_trace_id",
            Label::Repeated,
            Type::Uint64,
            "",
        ),
        (
            "flow.FlowFilter.verdict",
            Label::Repeated,
            Type::Enum,
            "flow.Verdict",
        ),
        (
            "flow.FlowFilter.experimental",
            Label::Optional,
            Type::Message,
            "flow.FlowFilter.Experimental",
        ),
        (
            "observer.GetFlowsRequest.whitelist",
            Label::Repeated,
            Type::Message,
            "flow.FlowFilter",
        ),
        (
            "observer.ServerStatusResponse.num_connected_nodes",
            Label::Optional,
            Type::Message,
            "google.protobuf.UInt32Value",
        ),
        (
            "observer.ServerStatusResponse.flows_rate",
            Label::Optional,
            Type::Double,
            "",
        ),
    ];
    for (path, label, field_type, name) in cases {
        assert_eq!(kind(path), (label, field_type, name.to_owned()), "{path}");
    }
}
