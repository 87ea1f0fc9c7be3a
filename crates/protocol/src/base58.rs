//! Base58 in the Bitcoin alphabet, which libp2p writes peer ids in.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Quadratic in the length, which is why callers pass ids and nothing longer.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    // Little-endian digits of the number that the bytes spell.
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 138 / 100 + 1);
    for &byte in &bytes[zeros..] {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let mut text = "1".repeat(zeros);
    text.extend(
        digits
            .iter()
            .rev()
            .map(|&digit| char::from(ALPHABET[usize::from(digit)])),
    );
    text
}

/// `None` for a foreign character or for more than `max` bytes; a text is never read past what `max` allows.
pub(crate) fn decode(text: &str, max: usize) -> Option<Vec<u8>> {
    // A base58 digit carries log2(58)/8 = 0.73 bytes; two digits per byte is a safe bound on the work.
    if text.len() > 2 * max {
        return None;
    }
    let zeros = text.bytes().take_while(|&byte| byte == b'1').count();
    let mut bytes: Vec<u8> = Vec::with_capacity(max);
    for character in text.bytes().skip(zeros) {
        let value = ALPHABET.iter().position(|&known| known == character)?;
        let mut carry = u32::try_from(value).ok()?;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 58;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push((carry & 0xff) as u8);
            carry >>= 8;
        }
    }
    bytes.extend(std::iter::repeat_n(0, zeros));
    bytes.reverse();
    (bytes.len() <= max).then_some(bytes)
}
