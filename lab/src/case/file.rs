//! The file as it was written: which tables and keys exist. What they mean, `check` says.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::Fault;
use crate::portmap::PortMapping;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    #[serde(default)]
    pub(super) about: String,
    #[serde(default)]
    pub(super) site: BTreeMap<Spanned<String>, SiteFile>,
    #[serde(default)]
    pub(super) host: BTreeMap<Spanned<String>, HostFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteFile {
    pub(super) nat: Option<Spanned<toml::Value>>,
    pub(super) behind: Option<Spanned<String>>,
    pub(super) lan: Option<Spanned<String>>,
    pub(super) families: Option<Spanned<String>>,
    pub(super) firewall: Option<Vec<Spanned<String>>>,
    #[serde(rename = "port-mapping")]
    pub(super) port_mapping: Option<Spanned<Vec<PortMapping>>>,
    pub(super) mtu: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) cable: CableFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostFile {
    pub(super) site: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) config: String,
    #[serde(default)]
    pub(super) cable: CableFile,
}

/// What happens on a cable.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CableFile {
    pub(super) delay: Option<Spanned<String>>,
    pub(super) jitter: Option<Spanned<String>>,
    pub(super) loss: Option<Spanned<f64>>,
    pub(super) duplicate: Option<Spanned<f64>>,
    pub(super) reorder: Option<Spanned<f64>>,
    pub(super) rate: Option<Spanned<String>>,
    pub(super) hole: Option<Spanned<i64>>,
}

/// A NAT in parts; what is not said is as in the kind it is like.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NatFile {
    pub(super) like: Option<String>,
    pub(super) mapping: Option<crate::nat::Dependence>,
    pub(super) filtering: Option<crate::nat::Dependence>,
    pub(super) ports: Option<crate::nat::Ports>,
    pub(super) hairpin: Option<bool>,
    pub(super) unsolicited: Option<crate::nat::Unsolicited>,
    pub(super) refresh: Option<crate::nat::Refresh>,
    pub(super) udp_timeout: Option<String>,
    pub(super) mappings_per_host: Option<usize>,
}

pub(super) fn read(text: &str) -> Result<CaseFile, Fault> {
    toml::from_str(text).map_err(|error| Fault {
        line: line_of(text, &error.span().unwrap_or_default()),
        message: error.message().to_owned(),
        remedy: "see the head of lab/src/case/mod.rs for what may stand here".to_owned(),
    })
}

/// The line, from 1, in which a place begins.
pub(super) fn line_of(text: &str, place: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..place.start).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
