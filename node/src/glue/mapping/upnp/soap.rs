//! The three actions of a WAN connection service, as SOAP, and what a router says to them.

use std::fmt;
use std::net::Ipv4Addr;

use super::description::{Control, document};
use super::http;

/// Error codes of WANIPConnection.
const CONFLICT: u16 = 718;
const SAME_PORT_REQUIRED: u16 = 724;
const ONLY_PERMANENT: u16 = 725;

/// What people see in their router's list.
const DESCRIPTION: &str = "consort";

/// An action, of UDP throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Maps a port.
    Add {
        /// Outside.
        outside: u16,
        /// Inside.
        inside: u16,
        /// Whose.
        host: Ipv4Addr,
        /// For how long; 0: until it is taken back.
        seconds: u32,
    },
    /// Takes a port back.
    Delete {
        /// Outside.
        outside: u16,
    },
    /// Asks for the outside address.
    Address,
}

/// What was said to an action that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    address: Option<Ipv4Addr>,
}

impl Said {
    /// The outside address, if it was asked for and is one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let is_somebodys = |ip: &Ipv4Addr| {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
        };
        self.address.filter(is_somebodys)
    }
}

/// Why an action was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The router says so, by its code.
    Code(u16),
    /// There was no answer that can be read.
    Broken(String),
}

impl Refused {
    /// The port is another host's, or cannot be had.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Code(CONFLICT | SAME_PORT_REQUIRED))
    }

    /// The router maps without an end only.
    #[must_use]
    pub fn is_only_permanent(&self) -> bool {
        *self == Self::Code(ONLY_PERMANENT)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(CONFLICT) => f.write_str("UPnP: the port is another host's (error 718)"),
            Self::Code(code) => write!(f, "UPnP: the router refuses with error {code}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl From<Refused> for String {
    fn from(refused: Refused) -> Self {
        refused.to_string()
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Add { .. } => "AddPortMapping",
            Self::Delete { .. } => "DeletePortMapping",
            Self::Address => "GetExternalIPAddress",
        }
    }

    /// In the order of the standard, which some routers insist on.
    fn arguments(self) -> String {
        match self {
            Self::Add { outside, inside, host, seconds } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{outside}</NewExternalPort><NewProtocol>UDP</NewProtocol>\
                 <NewInternalPort>{inside}</NewInternalPort><NewInternalClient>{host}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>{DESCRIPTION}</NewPortMappingDescription><NewLeaseDuration>{seconds}</NewLeaseDuration>"
            ),
            Self::Delete { outside } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{outside}</NewExternalPort><NewProtocol>UDP</NewProtocol>"
            ),
            Self::Address => String::new(),
        }
    }
}

/// An action as a request.
#[must_use]
pub fn request(control: &Control, action: &Action) -> Vec<u8> {
    let (name, service, arguments) = (action.name(), control.service, action.arguments());
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{name} xmlns:u=\"{service}\">{arguments}</u:{name}></s:Body></s:Envelope>\r\n"
    );
    let headers =
        format!("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{service}#{name}\"\r\n");
    http::post(&control.url, &headers, &body)
}

/// What a router says.
///
/// # Errors
/// If the action was not done, or nobody can tell.
pub fn read(answer: &http::Answer) -> Result<Said, Refused> {
    // Nothing is said to most actions, and some routers say that without a document.
    let document = document(&answer.body).ok();
    let text = |name: &str| {
        let document = document.as_ref()?;
        let node = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name)?;
        node.text().map(|text| text.trim().to_owned())
    };
    match answer.status {
        200 => {
            let address = text("NewExternalIPAddress").and_then(|text| text.parse().ok());
            Ok(Said { address })
        }
        status => match text("errorCode").and_then(|code| code.parse().ok()) {
            Some(code) => Err(Refused::Code(code)),
            None => Err(Refused::Broken(format!("UPnP: the router answers with status {status}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::Url;
    use super::*;

    fn answer(status: u16, body: &str) -> http::Answer {
        http::Answer { status, body: body.to_owned() }
    }

    fn address(text: &str) -> Option<Ipv4Addr> {
        read(&answer(200, &format!("<a><NewExternalIPAddress>{text}</NewExternalIPAddress></a>")))
            .unwrap()
            .address()
    }

    #[test]
    fn a_request_is_whole_and_names_its_action() {
        let url = Url::parse("http://192.168.1.1:5000/ctl", "192.168.1.1".parse().unwrap()).unwrap();
        let control = Control { service: "urn:schemas-upnp-org:service:WANIPConnection:1", url };
        let host = "192.168.1.10".parse().unwrap();
        let action = Action::Add { outside: 7441, inside: 7442, host, seconds: 1800 };
        let text = String::from_utf8(request(&control, &action)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /ctl HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"), "{head}");
        assert!(
            head.contains("SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"")
        );
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(document(body).is_ok());
        assert!(body.contains("<NewExternalPort>7441<") && body.contains("<NewInternalPort>7442<"));
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        assert_eq!(address("198.51.100.7"), Some(Ipv4Addr::new(198, 51, 100, 7)));
        for nobodys in ["", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "router", "::1"] {
            assert_eq!(address(nobodys), None, "{nobodys}");
        }
        let fault = |code: &str| {
            read(&answer(500, &format!("<s><UPnPError><errorCode>{code}</errorCode></UPnPError></s>")))
        };
        assert!(fault("718").unwrap_err().is_conflict());
        assert!(fault("725").unwrap_err().is_only_permanent());
        assert_eq!(fault("606"), Err(Refused::Code(606)));
        assert!(matches!(fault("99999999"), Err(Refused::Broken(_))));
        assert!(matches!(read(&answer(500, "<<<")), Err(Refused::Broken(_))));
        assert_eq!(read(&answer(200, "")).unwrap().address(), None);
    }
}
