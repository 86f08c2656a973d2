//! A checked view over bytes from outside: every take says how much it needs before it looks.
//!
//! Owns nothing but a cursor; knows no format. It never panics and never allocates: lists are counted and bounded by those who read them.
//! All integers are big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most socket addresses one ticket or record may name: two families, some interfaces, one mapped address, and room.
/// More would let one host crowd a small record; fewer would cut off hosts with several networks.
pub const ADDRESSES_MAX: usize = 8;

/// The bytes ended before the field did, or hold what the field cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end early, run on too long, or hold a value the field cannot have")]
pub struct Malformed;

/// The cursor.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A field that says its own length in two bytes.
    pub(crate) fn counted(&mut self, len_max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        if len > len_max {
            return Err(Malformed);
        }
        self.slice(len)
    }

    /// Count, then `4 | 6`, address, port for each.
    pub(crate) fn addresses(&mut self) -> Result<Vec<SocketAddr>, Malformed> {
        let count = usize::from(self.u8()?);
        if count > ADDRESSES_MAX {
            return Err(Malformed);
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let ip = match self.u8()? {
                4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
                6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
                _ => return Err(Malformed),
            };
            addresses.push(SocketAddr::new(ip, self.u16()?));
        }
        Ok(addresses)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Trailing bytes are refused: what is signed and hashed has one form.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// The reverse of [`Reader::counted`]. The caller has bounded the field.
pub(crate) fn put_counted(out: &mut Vec<u8>, field: &[u8]) {
    let len =
        u16::try_from(field.len()).expect("counted fields are bounded far below 64 KiB where they are made");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
}

/// The reverse of [`Reader::addresses`]; what exceeds [`ADDRESSES_MAX`] is left out.
pub(crate) fn put_addresses(out: &mut Vec<u8>, addresses: &[SocketAddr]) {
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    out.push(u8::try_from(addresses.len()).expect("at most ADDRESSES_MAX"));
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        let mut out = Vec::new();
        put_addresses(&mut out, &["10.0.0.1:4001".parse().unwrap(), "[::1]:1".parse().unwrap()]);
        let mut expected = vec![2, 4, 10, 0, 0, 1, 0x0f, 0xa1, 6];
        expected.extend([0; 15]);
        expected.extend([1, 0, 1]);
        assert_eq!(out, expected);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.addresses().unwrap().len(), 2);
        reader.end().unwrap();
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let mut bytes = vec![9];
        bytes.extend([4, 1, 1, 1, 1, 0, 1].repeat(9));
        assert_eq!(Reader::new(&bytes).addresses(), Err(Malformed));
    }
}
