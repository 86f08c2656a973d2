//! UPnP: the search for an Internet Gateway Device on the LAN, its description, and the three actions that map ports (UPnP Device Architecture 1.1; WANIPConnection:1).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::change;
use crate::nat::{Nat, NotPinned, Protocol};

pub(super) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
pub(super) const SEARCH_PORT: u16 = 1900;
pub(super) const HTTP_PORT: u16 = 5000;

const DEVICE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const DESCRIPTION_PATH: &str = "/rootDesc.xml";
const CONTROL_PATH: &str = "/ctl/IPConn";

/// Error codes of WANIPConnection:1.
const INVALID_ACTION: u16 = 401;
const INVALID_ARGUMENTS: u16 = 402;
const NO_SUCH_ENTRY: u16 = 714;
const CONFLICT: u16 = 718;

/// The answer to a search that concerns this device.
pub(super) fn found(own: Ipv4Addr, search: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(search).ok()?;
    let wanted = header(text, "ST")?;
    let is_for_us = ["ssdp:all", "upnp:rootdevice", DEVICE].contains(&wanted);
    (text.starts_with("M-SEARCH * HTTP/1.1\r\n") && is_for_us).then(|| {
        format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {DEVICE}\r\nUSN: uuid:lab::{DEVICE}\r\nEXT:\r\n\
             SERVER: lab UPnP/1.1\r\nLOCATION: http://{own}:{HTTP_PORT}{DESCRIPTION_PATH}\r\n\r\n"
        )
        .into_bytes()
    })
}

/// The answer to a request, whole with its body.
pub(super) fn answer(now: Duration, request: &str, nat: &mut Nat) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    let mut line = head.lines().next().unwrap_or_default().split(' ');
    match (line.next(), line.next()) {
        (Some("GET"), Some(DESCRIPTION_PATH)) => http("200 OK", &description()),
        (Some("POST"), Some(CONTROL_PATH)) => {
            let action = header(head, "SOAPACTION").map(|action| action.trim_matches('"'));
            let action = action.and_then(|action| action.strip_prefix(SERVICE)?.strip_prefix('#'));
            match perform(now, action.unwrap_or_default(), body, nat) {
                Ok(answer) => http("200 OK", &envelope(&answer)),
                Err(code) => http("500 Internal Server Error", &envelope(&fault(code))),
            }
        }
        _ => http("404 Not Found", ""),
    }
}

fn perform(now: Duration, action: &str, body: &str, nat: &mut Nat) -> Result<String, u16> {
    let arguments = match action {
        "GetExternalIPAddress" => format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", nat.address()),
        "AddPortMapping" => {
            let inside = inside(body).ok_or(INVALID_ARGUMENTS)?;
            let wanted = number(body, "NewExternalPort").ok_or(INVALID_ARGUMENTS)?;
            let life = argument(body, "NewLeaseDuration").and_then(|life| life.parse().ok());
            // Without an end means until it is taken back, or the gateway forgets.
            let life = life.filter(|life| *life != 0).unwrap_or(u32::MAX);
            change(nat, now, inside, (wanted, true), life).map_err(|error| match error {
                NotPinned::Full | NotPinned::Taken => CONFLICT,
            })?;
            String::new()
        }
        "DeletePortMapping" => {
            let port = number(body, "NewExternalPort").ok_or(INVALID_ARGUMENTS)?;
            let protocol = protocol(body).ok_or(INVALID_ARGUMENTS)?;
            let outside = SocketAddrV4::new(nat.address(), port);
            if !nat.unpin(protocol, outside) {
                return Err(NO_SUCH_ENTRY);
            }
            String::new()
        }
        _ => return Err(INVALID_ACTION),
    };
    Ok(format!("<u:{action}Response xmlns:u=\"{SERVICE}\">{arguments}</u:{action}Response>"))
}

fn inside(body: &str) -> Option<(Protocol, SocketAddrV4)> {
    let client = argument(body, "NewInternalClient")?.parse().ok()?;
    let port = number(body, "NewInternalPort").filter(|port| *port != 0)?;
    Some((protocol(body)?, SocketAddrV4::new(client, port)))
}

fn protocol(body: &str) -> Option<Protocol> {
    match argument(body, "NewProtocol")? {
        "UDP" => Some(Protocol::Udp),
        "TCP" => Some(Protocol::Tcp),
        _ => None,
    }
}

fn number(body: &str, name: &str) -> Option<u16> {
    argument(body, name)?.parse().ok()
}

/// What stands between an argument's tags; that is all of XML that an action's arguments need.
fn argument<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = body.split_once(&format!("<{name}>"))?;
    after.split_once(&format!("</{name}>")).map(|(value, _)| value.trim())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\nCONTENT-LENGTH: {}\r\nCONNECTION: close\r\n\r\n{body}",
        body.len()
    )
}

fn envelope(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>{inner}</s:Body></s:Envelope>"
    )
}

fn fault(code: u16) -> String {
    format!(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode></UPnPError></detail></s:Fault>"
    )
}

/// The device, in it the WAN device, in that the WAN connection device, in that the service: as the standard nests them.
fn description() -> String {
    let nested = [
        (DEVICE, "lab", ""),
        ("urn:schemas-upnp-org:device:WANDevice:1", "wan", ""),
        (
            "urn:schemas-upnp-org:device:WANConnectionDevice:1",
            "connection",
            "<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
             <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/ctl/IPConn</controlURL>\
             <eventSubURL>/evt/IPConn</eventSubURL><SCPDURL>/WANIPCn.xml</SCPDURL></service></serviceList>",
        ),
    ];
    let device = nested.iter().rev().fold(String::new(), |inner, (kind, name, services)| {
        let list = if inner.is_empty() { inner } else { format!("<deviceList>{inner}</deviceList>") };
        format!(
            "<device><deviceType>{kind}</deviceType><friendlyName>{name}</friendlyName>{services}{list}</device>"
        )
    });
    format!(
        "<?xml version=\"1.0\"?>\r\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\"><specVersion><major>1</major><minor>1</minor></specVersion>{device}</root>"
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, nat};
    use super::*;

    fn soap(action: &str, arguments: &str) -> String {
        format!(
            "POST {CONTROL_PATH} HTTP/1.1\r\nSOAPAction: \"{SERVICE}#{action}\"\r\n\r\n{}",
            envelope(&format!("<u:{action} xmlns:u=\"{SERVICE}\">{arguments}</u:{action}>"))
        )
    }

    fn mapping(host: &str, port: u16) -> String {
        format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort><NewProtocol>UDP</NewProtocol>\
             <NewInternalPort>7441</NewInternalPort><NewInternalClient>{host}</NewInternalClient><NewEnabled>1</NewEnabled>\
             <NewPortMappingDescription>x</NewPortMappingDescription><NewLeaseDuration>600</NewLeaseDuration>"
        )
    }

    #[test]
    fn a_search_for_a_gateway_is_answered_and_others_are_not() {
        let own = Ipv4Addr::new(192, 168, 1, 1);
        let search = |st: &str| format!("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: {st}\r\n\r\n");
        let said = String::from_utf8(found(own, search(DEVICE).as_bytes()).unwrap()).unwrap();
        assert_eq!(header(&said, "location"), Some("http://192.168.1.1:5000/rootDesc.xml"));
        assert_eq!(found(own, search("urn:schemas-upnp-org:device:MediaServer:1").as_bytes()), None);
        assert_eq!(found(own, b"NOTIFY * HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn the_actions_map_and_take_back_and_name_their_errors() {
        let mut nat = nat("symmetric-random");
        let mut ask = |request: &str| answer(NOW, request, &mut nat);
        assert!(ask("GET /rootDesc.xml HTTP/1.1\r\n\r\n").contains("<controlURL>/ctl/IPConn</controlURL>"));
        assert!(ask(&soap("GetExternalIPAddress", "")).contains(">198.51.100.7<"));
        let add = |host, port| soap("AddPortMapping", &mapping(host, port));
        assert!(ask(&add("192.168.1.10", 7441)).starts_with("HTTP/1.1 200"));
        assert!(ask(&add("192.168.1.11", 7441)).contains("<errorCode>718<"), "another host's");
        assert!(ask(&soap("AddPortMapping", "<NewExternalPort>no</NewExternalPort>")).contains(">402<"));
        let delete = soap(
            "DeletePortMapping",
            "<NewExternalPort>7441</NewExternalPort><NewProtocol>UDP</NewProtocol>",
        );
        assert!(ask(&delete).starts_with("HTTP/1.1 200"));
        assert!(ask(&delete).contains("<errorCode>714<"));
        assert!(ask(&soap("Reboot", "")).contains("<errorCode>401<"));
        assert!(ask("GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    }
}
