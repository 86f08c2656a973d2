//! The service in a router's description that maps ports, and its control URL.

use roxmltree::{Document, Node, ParsingOptions};

use super::search::Url;

/// Services that map ports, the best first. PPP is how DSL routers name theirs.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Nodes of a document that are read: descriptions have some hundreds.
const NODES_MAX: u32 = 4_096;

/// Where actions go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The service's type.
    pub service: &'static str,
    /// Its control URL.
    pub url: Url,
}

/// An XML document within bounds: no DTD, so no entities but XML's own.
///
/// # Errors
/// In words.
pub fn document(text: &str) -> Result<Document<'_>, String> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options)
        .map_err(|error| format!("UPnP: the router's XML is broken: {error}"))
}

/// The control URL in a description that was found at `here`.
///
/// # Errors
/// In words, if there is none at this router.
pub fn control(text: &str, here: &Url) -> Result<Control, String> {
    let document = document(text)?;
    let base =
        document.descendants().find(|node| node.has_tag_name_of("URLBase")).and_then(|node| node.text());
    let base = base.and_then(|base| Url::parse(base.trim(), *here.address.ip()));
    let base = base.as_ref().unwrap_or(here);
    let services = || document.descendants().filter(|node| node.has_tag_name_of("service"));
    for kind in SERVICES {
        let of_kind = services().find(|service| child_text(*service, "serviceType") == Some(kind));
        if let Some(url) = of_kind.and_then(|service| child_text(service, "controlURL")) {
            let url = base.join(url).ok_or("UPnP: the router's control URL leads elsewhere")?;
            return Ok(Control { service: kind, url });
        }
    }
    Err("UPnP: the router's device maps no ports".to_owned())
}

fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.has_tag_name_of(name))?.text().map(str::trim)
}

/// By the name alone: devices differ in their namespaces.
trait LocalName {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl LocalName for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Url {
        Url::parse("http://192.168.1.1:5000/root.xml", "192.168.1.1".parse().unwrap()).unwrap()
    }

    fn with(service: &str, url: &str, before: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{before}<device><deviceList><device><serviceList>\
             <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/no</controlURL></service>\
             <service><serviceType>{service}</serviceType><controlURL> {url} </controlURL></service>\
             </serviceList></device></deviceList></device></root>"
        )
    }

    #[test]
    fn the_service_that_maps_ports_is_found() {
        for service in SERVICES {
            let control = control(&with(service, "/ctl", ""), &here()).unwrap();
            assert_eq!((control.service, control.url.path.as_str()), (service, "/ctl"));
        }
        let based = with(SERVICES[1], "ctl", "<URLBase>http://192.168.1.1:49152/up/</URLBase>");
        let url = control(&based, &here()).unwrap().url;
        assert_eq!((url.address.port(), url.path.as_str()), (49152, "/up/ctl"));
        assert!(control(&with("urn:other", "/ctl", ""), &here()).is_err());
    }

    #[test]
    fn no_description_leads_elsewhere_or_grows() {
        assert!(control(&with(SERVICES[1], "http://10.0.0.1/ctl", ""), &here()).is_err());
        let based = with(SERVICES[1], "/ctl", "<URLBase>http://10.0.0.1/</URLBase>");
        assert_eq!(control(&based, &here()).unwrap().url.address, here().address, "not believed");
        let laughs = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><root>&b;</root>";
        let outside = "<!DOCTYPE r [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><root>&a;</root>";
        let deep = "<a>".repeat(20_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(15_000));
        for bad in [laughs, outside, &deep, &wide, "", "<", "<a", "<a b=>", "\u{0}", "<a>&unknown;</a>"] {
            assert!(control(bad, &here()).is_err());
        }
    }
}
