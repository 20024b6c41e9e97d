//! Files with everything that users write into them, and what becomes of each document.

use proptest::prelude::*;

use super::*;
use crate::state::Problem;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
";

fn yaml(text: &str) -> ParsedFile {
    parse("a.yaml", Syntax::Yaml, text)
}

/// Items as `Kind namespace/name`, with `refused` where they are.
fn items(file: &ParsedFile) -> Vec<String> {
    let line = |item: &Item| match item.object {
        Some(_) => item.key.to_string(),
        None => format!("{} refused", item.key),
    };
    file.items.iter().map(line).collect()
}

/// Problems as `origin: object: field`.
fn problems(file: &ParsedFile) -> Vec<String> {
    let line = |p: &Problem| format!("{}|{}|{}", p.origin, p.object, p.field);
    file.problems.iter().map(line).collect()
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let broken = "kind: Pod\nmetadata:\n  name: [a\n";
    let file = yaml(&format!(
        "{SERVICE}---\n{broken}---\n{}",
        SERVICE.replace("web", "api")
    ));
    assert_eq!(items(&file), ["Service default/web", "Service default/api"]);
    assert_eq!(problems(&file), ["a.yaml:12||"]);
    assert!(file.lost_something);
    let message = &file.problems[0].message;
    assert!(
        message.contains("at line 11"),
        "lines are those of the file: {message}"
    );
}

#[test]
fn problems_name_line_object_and_field() {
    let service = "Service default/web";
    let cases = [
        (
            "port: 80",
            "port: http",
            "7",
            service,
            "spec.ports[0].port",
            true,
        ),
        (
            "port: 80",
            "port: 0",
            "7",
            service,
            "spec.ports[0].port",
            true,
        ),
        (
            "port: 80",
            "port: 80\n    prot: 1",
            "8",
            service,
            "spec.ports[0].prot",
            false,
        ),
        (
            "10.96.0.1",
            "10.96.0.1\n  tpye: x",
            "6",
            service,
            "spec.tpye",
            false,
        ),
        ("10.96.0.1", "[]", "5", service, "spec.clusterIP", true),
        (
            "{name: web}",
            "{name: web, labels: {a: 1}}",
            "3",
            service,
            "metadata.labels.a",
            true,
        ),
        (
            "{name: web}",
            "{name: Web}",
            "3",
            "Service default/Web",
            "metadata.name",
            true,
        ),
        (
            "{name: web}",
            "{name: web, namespace: a.b}",
            "3",
            "Service a.b/web",
            "metadata.namespace",
            true,
        ),
        (
            "apiVersion: v1",
            "apiVersion: v2",
            "1",
            service,
            "apiVersion",
            true,
        ),
        ("apiVersion: v1\n", "", "1", service, "apiVersion", true),
        (
            "spec:",
            "spec:\n  type: ClusterIP\n  type: ClusterIP",
            "1",
            "",
            "",
            false,
        ),
    ];
    for (old, new, line, object, field, refused) in cases {
        let text = SERVICE.replacen(old, new, 1);
        let file = yaml(&text);
        assert_eq!(
            problems(&file),
            [format!("a.yaml:{line}|{object}|{field}")],
            "{text}"
        );
        assert_eq!(file.items[0].object.is_none(), refused, "{text}");
        assert!(!file.lost_something, "{text}");
    }
}

#[test]
fn documents_without_a_readable_name_are_lost() {
    let cases = [
        ("{name: web}", "{name: [web]}", "3", "metadata.name"),
        ("{name: web}", "{}", "3", "metadata.name"),
        ("metadata: {name: web}\n", "", "1", "metadata.name"),
        ("kind: Service\n", "", "1", "kind"),
        ("kind: Service", "kind: 5", "2", "kind"),
    ];
    for (old, new, line, field) in cases {
        let text = SERVICE.replacen(old, new, 1);
        let file = yaml(&text);
        assert_eq!(
            problems(&file),
            [format!("a.yaml:{line}||{field}")],
            "{text}"
        );
        assert!(file.lost_something && file.items.is_empty(), "{text}");
    }
    for text in ["just text", "- a\n- b", "42"] {
        let file = yaml(text);
        assert_eq!(
            (problems(&file), file.lost_something),
            (vec!["a.yaml:1||".to_owned()], true)
        );
    }
}

#[test]
fn objects_of_other_kinds_are_ignored_with_a_warning() {
    let file = yaml("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n");
    assert_eq!(problems(&file), ["a.yaml:2||kind"]);
    assert_eq!(file.problems[0].severity, Severity::Warning);
    assert!(file.items.is_empty() && !file.lost_something);
}

#[test]
fn empty_files_and_documents_are_no_problem() {
    for text in [
        "",
        "\n\n",
        "---\n---\n",
        "# nothing\n",
        "--- ~\n",
        "%YAML 1.1\n---\n",
    ] {
        let file = yaml(text);
        assert!(
            file.problems.is_empty() && file.items.is_empty(),
            "{text:?}"
        );
    }
}

#[test]
fn items_of_a_list_stand_for_themselves() {
    let text = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
- apiVersion: v1
  kind: Service
  metadata: {name: api, namespace: shop}
  spec:
    clusterIP: nowhere
    ports: [{port: 80}]
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop}
";
    let file = yaml(text);
    let expected = [
        "Service default/web",
        "Service shop/api refused",
        "Namespace shop",
    ];
    assert_eq!(items(&file), expected);
    assert_eq!(
        problems(&file),
        ["a.yaml:12|Service shop/api|spec.clusterIP"]
    );
}

#[test]
fn json_files_are_read_as_json() {
    let text = r#"{"apiVersion": "v1", "kind": "Namespace",
	"metadata": {"name": "shop"}}"#;
    let file = parse("a.json", Syntax::Json, text);
    assert_eq!(
        (items(&file), problems(&file)),
        (vec!["Namespace shop".to_owned()], vec![])
    );
    let file = parse("a.json", Syntax::Json, &text[..text.len() - 1]);
    assert_eq!(
        (problems(&file), file.lost_something),
        (vec!["a.json:2||".to_owned()], true)
    );
}

#[test]
fn all_kinds_are_read() {
    let text = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.1]}]
---
{apiVersion: v1, kind: Pod, metadata: {name: web-a}, spec: {containers: []}}
---
{apiVersion: v1, kind: Node, metadata: {name: worker}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
";
    let file = yaml(text);
    assert_eq!(problems(&file), [""; 0]);
    let expected = [
        "EndpointSlice default/web-1",
        "Pod default/web-a",
        "Node worker",
        "Namespace default",
    ];
    assert_eq!(items(&file), expected);
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let text = "---\nkind: [\n".repeat(MAX_PROBLEMS + 7);
    let file = yaml(&text);
    assert_eq!(file.problems.len(), MAX_PROBLEMS + 1);
    assert!(file.problems[MAX_PROBLEMS].message.starts_with("7 further"));
}

#[test]
fn words_of_the_input_cannot_drive_a_terminal_or_flood_it() {
    let name = "\\e[31mred".to_owned() + &"x".repeat(1_000);
    let file = yaml(&SERVICE.replace("{name: web}", &format!("{{name: \"{name}\"}}")));
    let text = file.problems[0].to_string();
    assert!(
        !text.contains('\u{1b}') && text.contains("[31mred"),
        "{text}"
    );
    assert!(text.len() < 1_500, "{}", text.len());
}

#[test]
fn line_numbers_of_the_parser_are_shifted_everywhere() {
    assert_eq!(
        shift_lines("no, at line 3 column 1, at line 1", 10),
        "no, at line 13 column 1, at line 11"
    );
    assert_eq!(shift_lines("at line x", 1), "at line 0x");
    assert_eq!(shift_lines("", 1), "");
}

proptest! {
    /// Cutting a file anywhere is what a reader sees of a write that has not finished.
    #[test]
    fn a_file_cut_anywhere_is_read_without_panic(at in 0..SERVICE.len() * 2) {
        let text = format!("{SERVICE}---\n{SERVICE}");
        yaml(&text[..at.min(text.len())]);
    }

    #[test]
    fn any_line_noise_is_read_without_panic(
        noise in "[ -~\n]{0,40}",
        at in 0..SERVICE.len(),
    ) {
        let mut text = SERVICE.to_owned();
        text.insert_str(at, &noise);
        yaml(&text);
    }
}
