//! IPv4 packets as a switch sees them: who, to whom, by which ports, and how to rewrite that.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Of IPv4, RFC 791, without options.
const HEADER: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What carries the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// The ends of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
}

/// The ends of this packet; `None` for what the switch does not carry: other protocols, fragments, what is cut short.
#[must_use]
pub fn flow(packet: &[u8]) -> Option<Flow> {
    let ports = transport(packet)?;
    let protocol = match packet[9] {
        TCP => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    Some(Flow {
        protocol,
        from: SocketAddrV4::new(address(packet, 12), word(packet, ports)),
        to: SocketAddrV4::new(address(packet, 16), word(packet, ports + 2)),
    })
}

/// Puts other ends into the packet, and mends its checksums. Does nothing to what [`flow`] does not know.
pub fn rewrite(packet: &mut [u8], from: SocketAddrV4, to: SocketAddrV4) {
    let Some(ports) = transport(packet) else {
        return;
    };
    let (tcp, sum) = match packet[9] {
        TCP => (true, ports + 16),
        _ => (false, ports + 6),
    };
    let mut change = Change::default();
    change.put(packet, 12, &from.ip().octets());
    change.put(packet, 16, &to.ip().octets());
    let header = change.applied(word(packet, 10));
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    change.put(packet, ports, &from.port().to_be_bytes());
    change.put(packet, ports + 2, &to.port().to_be_bytes());
    let old = word(packet, sum);
    // A UDP packet may go without a checksum.
    if tcp || old != 0 {
        let new = match change.applied(old) {
            0 if !tcp => 0xffff,
            new => new,
        };
        packet[sum..sum + 2].copy_from_slice(&new.to_be_bytes());
    }
}

/// Where the ports begin.
fn transport(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let (least, fragment) = match *packet.get(9)? {
        TCP => (20, word(packet, 6) & 0x3fff),
        UDP => (8, word(packet, 6) & 0x3fff),
        _ => return None,
    };
    let whole = first >> 4 == 4 && header >= HEADER && packet.len() >= header + least;
    (whole && fragment == 0).then_some(header)
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn address(packet: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3])
}

/// What was taken out of and put into words under a checksum, RFC 1624.
#[derive(Debug, Default)]
struct Change {
    sum: u32,
}

impl Change {
    fn put(&mut self, packet: &mut [u8], at: usize, bytes: &[u8]) {
        for (offset, new) in bytes.chunks_exact(2).enumerate() {
            let at = at + offset * 2;
            self.sum += u32::from(!word(packet, at));
            packet[at..at + 2].copy_from_slice(new);
            self.sum += u32::from(word(packet, at));
        }
    }

    fn applied(&self, checksum: u16) -> u16 {
        let mut sum = u32::from(!checksum) + self.sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet with right checksums.
    pub(crate) fn packet(flow: Flow, payload: &[u8]) -> Vec<u8> {
        let (number, header) = match flow.protocol {
            Protocol::Tcp => (TCP, 20),
            Protocol::Udp => (UDP, 8),
        };
        let length = HEADER + header + payload.len();
        let mut packet = vec![0; length];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = number;
        packet[12..16].copy_from_slice(&flow.from.ip().octets());
        packet[16..20].copy_from_slice(&flow.to.ip().octets());
        packet[20..22].copy_from_slice(&flow.from.port().to_be_bytes());
        packet[22..24].copy_from_slice(&flow.to.port().to_be_bytes());
        let sum = match flow.protocol {
            Protocol::Tcp => {
                packet[32] = 0x50;
                36
            }
            Protocol::Udp => {
                packet[24..26].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
                26
            }
        };
        packet[HEADER + header..].copy_from_slice(payload);
        let checksum = header_sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let checksum = transport_sum(&packet);
        packet[sum..sum + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn folded(words: impl Iterator<Item = u32>) -> u16 {
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
        bytes.chunks(2).map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
    }

    fn header_sum(packet: &[u8]) -> u16 {
        folded(words(&packet[..HEADER]))
    }

    fn transport_sum(packet: &[u8]) -> u16 {
        let body = &packet[HEADER..];
        let pseudo = words(&packet[12..20])
            .chain([u32::from(packet[9]), body.len() as u32])
            .collect::<Vec<_>>();
        folded(pseudo.into_iter().chain(words(body)))
    }

    pub(crate) fn end(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn checksums_hold_after_a_rewrite() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for payload in [&b""[..], b"odd", b"\xff\xff\xff\xff"] {
                let mut sent = packet(
                    Flow {
                        protocol,
                        from: end("192.168.0.2:5000"),
                        to: end("198.18.0.1:443"),
                    },
                    payload,
                );
                assert_eq!((header_sum(&sent), transport_sum(&sent)), (0, 0));
                rewrite(&mut sent, end("198.18.9.9:40000"), end("198.18.0.1:443"));
                assert_eq!((header_sum(&sent), transport_sum(&sent)), (0, 0));
                let now = flow(&sent).unwrap();
                assert_eq!(now.from, end("198.18.9.9:40000"));
                assert_eq!(now.protocol, protocol);
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_in_pieces_has_no_ends() {
        let whole = packet(
            Flow {
                protocol: Protocol::Tcp,
                from: end("198.18.0.1:1"),
                to: end("198.18.0.2:2"),
            },
            b"x",
        );
        assert!(flow(&whole).is_some());
        for length in 0..40 {
            assert_eq!(flow(&whole[..length]), None, "{length} bytes");
        }
        let mut fragment = whole.clone();
        fragment[7] = 1;
        assert_eq!(flow(&fragment), None);
        let mut other = whole;
        other[9] = 1;
        assert_eq!(flow(&other), None);
    }
}
