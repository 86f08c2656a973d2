//! What a machine is told about itself: the settings file.
//!
//! The driver writes it, `init` reads it; in a sandbox it is `/consort/settings`, in a VM the same bytes come by the initramfs. It is
//! text, one statement to a line, a key and its value divided by one space, so that a person can read it inside a machine and no JSON
//! library is needed in a static program:
//!
//! | line | meaning |
//! |---|---|
//! | `hostname NAME` | the machine's own name |
//! | `nic NAME MAC MTU` | an Ethernet device that exists |
//! | `address NIC IP/LEN` | an address on it |
//! | `route NIC IP/LEN via IP` | a route through a gateway on it |
//! | `host IP NAME` | a line of `/etc/hosts` |
//! | `run WORD` | the next word of the tenant's command; the lines in order are its arguments |
//! | `restart never` or `on-failure` or `always` | what happens when the command ends |
//!
//! Values run to the end of the line; `\n` and `\\` stand for a line feed and a backslash. Unknown keys are refused: the program
//! and the file come from one driver, so an unknown key is a fault, not a newer version.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Where a sandbox finds its settings.
pub const SETTINGS_PATH: &str = "/consort/settings";

/// A settings file larger than this is refused: 4096 host lines of 64 bytes, twice over.
pub const SETTINGS_BYTES_MAX: usize = 512 * 1024;

/// Lines of one kind at most; a bound on what `init` will do, far above any machine.
pub const LINES_MAX: usize = 16 * 1024;

/// What a machine is told about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The machine's own name.
    pub hostname: String,
    /// The Ethernet devices.
    pub nics: Vec<NicSettings>,
    /// Names for `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
    /// The tenant's command, empty if there is none.
    pub run: Vec<String>,
    /// What happens when the command ends.
    pub restart: Restart,
}

/// One Ethernet device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicSettings {
    /// The device's name, `eth0`.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The largest payload of a frame.
    pub mtu: u16,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes: destination, prefix length, gateway.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
}

/// What `init` does when the tenant's command ends. The machine itself stays up in every case, so that its logs and a shell in it
/// can still be had; it ends when its lease does or when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Nothing.
    Never,
    /// Start it again, after a pause that doubles from 100 ms to 10 s, if it ended with anything but 0.
    #[default]
    OnFailure,
    /// Start it again, with the same pauses, however it ended.
    Always,
}

impl Restart {
    /// The word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

/// Why a settings file was refused; the line counts from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "settings line {}: {}", self.line, self.fault)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        line(&mut out, "hostname", &self.hostname);
        for nic in &self.nics {
            let [a, b, c, d, e, f] = nic.mac;
            line(
                &mut out,
                "nic",
                &format!("{} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} {}", nic.name, nic.mtu),
            );
            for (address, prefix) in &nic.addresses {
                line(&mut out, "address", &format!("{} {address}/{prefix}", nic.name));
            }
            for (destination, prefix, gateway) in &nic.routes {
                line(&mut out, "route", &format!("{} {destination}/{prefix} via {gateway}", nic.name));
            }
        }
        for (address, name) in &self.hosts {
            line(&mut out, "host", &format!("{address} {name}"));
        }
        for word in &self.run {
            line(&mut out, "run", word);
        }
        line(&mut out, "restart", self.restart.word());
        out
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn decode(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        if text.len() > SETTINGS_BYTES_MAX {
            return Err(SettingsError { line: 0, fault: "the file is larger than a settings file can be" });
        }
        for (index, text) in text.lines().enumerate() {
            let refuse = |fault| SettingsError { line: index + 1, fault };
            if index >= LINES_MAX {
                return Err(refuse("too many lines"));
            }
            if text.is_empty() {
                continue;
            }
            let (key, value) = text.split_once(' ').ok_or_else(|| refuse("a key without a value"))?;
            let value = unescape(value).ok_or_else(|| refuse("a backslash that is not \\\\ or \\n"))?;
            settings.apply(key, &value).map_err(refuse)?;
        }
        Ok(settings)
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "hostname" => value.clone_into(&mut self.hostname),
            "nic" => {
                let mut words = value.split(' ');
                let (Some(name), Some(mac), Some(mtu), None) =
                    (words.next(), words.next(), words.next(), words.next())
                else {
                    return Err("a nic is a name, a hardware address and an MTU");
                };
                let mac =
                    parse_mac(mac).ok_or("the hardware address is not six pairs of hexadecimal digits")?;
                let mtu = mtu.parse().map_err(|_| "the MTU is not a number below 65536")?;
                if self.nics.iter().any(|nic| nic.name == name) {
                    return Err("a nic of this name stands already");
                }
                self.nics.push(NicSettings {
                    name: name.to_owned(),
                    mac,
                    mtu,
                    addresses: Vec::new(),
                    routes: Vec::new(),
                });
            }
            "address" => {
                let (nic, address) =
                    value.split_once(' ').ok_or("an address is a nic and an address/length")?;
                let address = parse_prefix(address).ok_or("not an address/length")?;
                self.nic(nic)?.addresses.push(address);
            }
            "route" => {
                let mut words = value.split(' ');
                let (Some(nic), Some(to), Some("via"), Some(gateway)) =
                    (words.next(), words.next(), words.next(), words.next())
                else {
                    return Err("a route is a nic, an address/length, via, and a gateway");
                };
                let (destination, prefix) = parse_prefix(to).ok_or("not an address/length")?;
                let gateway = gateway.parse().map_err(|_| "the gateway is not an address")?;
                self.nic(nic)?.routes.push((destination, prefix, gateway));
            }
            "host" => {
                let (address, name) = value.split_once(' ').ok_or("a host is an address and a name")?;
                let address = address.parse().map_err(|_| "the host's address is not an address")?;
                self.hosts.push((address, name.to_owned()));
            }
            "run" => self.run.push(value.to_owned()),
            "restart" => {
                self.restart = match value {
                    "never" => Restart::Never,
                    "on-failure" => Restart::OnFailure,
                    "always" => Restart::Always,
                    _ => return Err("restart is never, on-failure or always"),
                }
            }
            _ => return Err("unknown key"),
        }
        Ok(())
    }

    fn nic(&mut self, name: &str) -> Result<&mut NicSettings, &'static str> {
        self.nics.iter_mut().find(|nic| nic.name == name).ok_or("names a nic that no line before it made")
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    let value = value.replace('\\', "\\\\").replace('\n', "\\n");
    writeln!(out, "{key} {value}").expect("writing to a string cannot fail");
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                'n' => out.push('\n'),
                '\\' => out.push('\\'),
                _ => return None,
            },
            other => out.push(other),
        }
    }
    Some(out)
}

/// Reads `02:00:5e:10:00:01`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut mac {
        let pair = pairs.next()?;
        if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(mac)
}

/// Reads `10.7.0.2/24` or `fd00::2/64`.
#[must_use]
pub fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some((address, prefix))
}

/// The fuzz target's body: any bytes are refused, or read as settings that read the same again.
pub fn fuzz(data: &[u8]) {
    if let Ok(settings) = Settings::decode(&String::from_utf8_lossy(data)) {
        assert_eq!(
            Settings::decode(&settings.encode()).as_ref(),
            Ok(&settings),
            "what is written reads the same"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Settings {
        Settings {
            hostname: "worker-0".into(),
            nics: vec![NicSettings {
                name: "eth0".into(),
                mac: [2, 0, 0x5e, 0x10, 0, 1],
                mtu: 1400,
                addresses: vec![("10.7.0.2".parse().unwrap(), 24), ("fd00::2".parse().unwrap(), 64)],
                routes: vec![("0.0.0.0".parse().unwrap(), 0, "10.7.0.1".parse().unwrap())],
            }],
            hosts: vec![("10.7.0.3".parse().unwrap(), "worker-1".into())],
            run: vec!["/bin/app".into(), "two words".into(), "a\nb\\c".into(), String::new()],
            restart: Restart::Always,
        }
    }

    const GOLDEN: &str = "hostname worker-0\nnic eth0 02:00:5e:10:00:01 1400\naddress eth0 10.7.0.2/24\naddress eth0 fd00::2/64\n\
        route eth0 0.0.0.0/0 via 10.7.0.1\nhost 10.7.0.3 worker-1\nrun /bin/app\nrun two words\nrun a\\nb\\\\c\nrun \nrestart always\n";

    #[test]
    fn the_text_is_as_documented_and_reads_back() {
        assert_eq!(example().encode(), GOLDEN);
        assert_eq!(Settings::decode(GOLDEN).unwrap(), example());
    }

    #[test]
    fn faults_are_named_with_their_line() {
        for (text, line, fault) in [
            ("hostname a\ncolour red\n", 2, "unknown key"),
            ("hostname\n", 1, "a key without a value"),
            ("address eth0 10.0.0.1/24\n", 1, "names a nic that no line before it made"),
            ("nic eth0 02:00:00:00:00:01 1500\naddress eth0 10.0.0.1/33\n", 2, "not an address/length"),
            (
                "nic eth0 02:00:00:00:00 1500\n",
                1,
                "the hardware address is not six pairs of hexadecimal digits",
            ),
            ("run a\\tb\n", 1, "a backslash that is not \\\\ or \\n"),
        ] {
            assert_eq!(Settings::decode(text).unwrap_err(), SettingsError { line, fault }, "{text:?}");
        }
    }

    #[test]
    fn cut_and_flipped_text_never_panics() {
        let golden = GOLDEN.as_bytes();
        for cut in 0..golden.len() {
            fuzz(&golden[..cut]);
            for bit in 0..8 {
                let mut flipped = golden.to_vec();
                flipped[cut] ^= 1 << bit;
                fuzz(&flipped);
            }
        }
    }
}
