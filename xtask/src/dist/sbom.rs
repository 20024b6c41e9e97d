//! The list of what is inside, in the form of `CycloneDX`.
//!
//! It has neither a time nor a serial number: the same sources give the same list.

use anyhow::Context as _;
use cyclonedx_bom::external_models::spdx::SpdxExpression;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::Bom;
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::prelude::{NormalizedString, Validate as _};

use super::graph::{Graph, Package};

/// Name of the whole.
const WHOLE: &str = "weir";

/// The list as JSON.
pub fn of(graph: &Graph) -> anyhow::Result<Vec<u8>> {
    let whole = Component::new(Classification::Application, WHOLE, graph.version(), None);
    let components = graph.packages().map(component);
    let dependencies = graph.packages().map(|package| Dependency {
        dependency_ref: reference(package),
        dependencies: graph.needs(package).map(reference).collect(),
    });
    let bom = Bom {
        serial_number: None,
        metadata: Some(Metadata {
            component: Some(whole),
            ..Metadata::default()
        }),
        components: Some(Components(components.collect::<anyhow::Result<_>>()?)),
        dependencies: Some(Dependencies(dependencies.collect())),
        ..Bom::default()
    };
    let judged = bom.validate();
    anyhow::ensure!(
        judged.passed(),
        "the list is not as CycloneDX has it: {judged:?}"
    );
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json)
        .context("write the list")?;
    json.push(b'\n');
    Ok(json)
}

fn component(package: &Package) -> anyhow::Result<Component> {
    let Package { name, version, .. } = package;
    let mut component = Component::new(
        Classification::Library,
        name,
        version,
        Some(reference(package)),
    );
    let purl = Purl::new("cargo", name, version);
    component.purl = Some(purl.with_context(|| format!("name {name} {version}"))?);
    component.description = package.description.as_deref().map(NormalizedString::new);
    if let Some(license) = &package.license {
        // Some packages still have the slash of cargo's early days.
        let expression = SpdxExpression::new(&license.replace('/', " OR "));
        component.licenses = Some(Licenses(vec![LicenseChoice::Expression(expression)]));
    }
    Ok(component)
}

fn reference(package: &Package) -> String {
    format!("{}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::dist::graph::tests::small;

    #[test]
    fn every_package_is_listed_with_licence_and_needs() {
        let graph = small(std::path::Path::new("/nowhere"));
        let json = of(&graph).unwrap();
        assert_eq!(json, of(&graph).unwrap());
        let list: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(list["bomFormat"], "CycloneDX");
        assert_eq!(list["metadata"]["component"]["version"], "1.2.3");
        let components = list["components"].as_array().unwrap();
        let purls: Vec<_> = components.iter().map(|it| &it["purl"]).collect();
        assert_eq!(
            purls,
            [
                "pkg:cargo/a@1.2.3",
                "pkg:cargo/agent@1.2.3",
                "pkg:cargo/b@1.2.3"
            ]
        );
        for component in components {
            let expression = &component["licenses"][0]["expression"];
            assert_eq!(*expression, "MIT OR Apache-2.0");
        }
        let needs = list["dependencies"].as_array().unwrap();
        let of_agent = needs.iter().find(|it| it["ref"] == "agent@1.2.3").unwrap();
        assert_eq!(of_agent["dependsOn"], serde_json::json!(["a@1.2.3"]));
    }
}
